package models

import (
	"crypto/rand"
	"os"
	"os/exec"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"
)

func keys(t testing.TB) (minisign.PublicKey, minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return public, private
}

// hashed signs like a current minisign: ED, over BLAKE2b-512.
func hashed(t testing.TB, key minisign.PrivateKey, message []byte) []byte {
	t.Helper()
	r := minisign.NewReader(strings.NewReader(string(message)))
	_, err := r.Read(make([]byte, len(message)+1))
	require.NoError(t, err)
	return r.SignWithComments(key, "model m", "by a test")
}

// Both forms of a signature are accepted; a changed signature, or one with another key, is not.
func TestSignatures(t *testing.T) {
	public, private := keys(t)
	_, stranger := keys(t)
	file, err := public.MarshalText()
	require.NoError(t, err)
	for _, key := range []string{public.String(), string(file)} {
		trust, err := ParseTrust([]string{key})
		require.NoError(t, err)
		message := []byte(`{"format":1}`)
		for name, signature := range map[string][]byte{
			"ED": hashed(t, private, message), "Ed": minisign.SignWithComments(private, message, "model m", "by a test"),
		} {
			comment, err := trust.Verify(message, signature)
			require.NoError(t, err, name)
			require.Equal(t, "model m", comment)
			_, err = trust.Verify([]byte(`{"format":2}`), signature)
			require.ErrorContains(t, err, "does not fit the manifest")
			_, err = trust.Verify(message, []byte(strings.Replace(string(signature), "model m", "model n", 1)))
			require.ErrorContains(t, err, "does not fit the manifest", "the trusted comment is signed")
			for i := range signature {
				changed := append([]byte(nil), signature...)
				changed[i] ^= 1
				if _, err := trust.Verify(message, changed); err == nil { // another comment, or unused bits of base64
					var was, is minisign.Signature
					require.NoError(t, was.UnmarshalText(signature))
					require.NoError(t, is.UnmarshalText(changed))
					require.True(t, was.Equal(is), "byte %d", i)
				}
			}
		}
		_, err = trust.Verify(message, hashed(t, stranger, message))
		require.ErrorContains(t, err, "not trusted")
		for _, bad := range []string{"", "x", "untrusted comment: \n\n\n", strings.Repeat("a", maxSignature+1)} {
			_, err = trust.Verify(message, []byte(bad))
			require.Error(t, err, bad)
		}
	}
	_, err = ParseTrust([]string{"RWQ"})
	require.ErrorContains(t, err, "public key 0")
	comment, err := Trust{}.Verify([]byte("x"), nil)
	require.NoError(t, err, "without keys nothing is verified")
	require.Empty(t, comment)
}

// A store with keys accepts a model only with a signature.
func TestAStoreWithKeys(t *testing.T) {
	public, private := keys(t)
	dir := t.TempDir()
	m := describe(t, "m", "1", made(t, 4, 1))
	folder := put(t, dir, m, made(t, 4, 1))
	s := open(t, dir, func(c *Config) { c.Keys = []string{public.String()} })
	_, problems := s.Status()
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "not signed")
	require.NoError(t, os.WriteFile(folder+"/"+SignatureFile, hashed(t, private, text(t, m)), 0o600))
	require.NoError(t, s.Scan(t.Context()))
	require.InDelta(t, 1, value(t, s, "m"), 0)
	require.Equal(t, "model m", status(t, s, "m").Signed)
}

// A signature permits a rollback if a word of its trusted comment names the newest version that may be replaced.
func TestRollbacksThatASignaturePermits(t *testing.T) {
	_, private := keys(t)
	for comment, want := range map[string]Version{
		"": "", "m 1.4.0": "", "rollback:1.5.0": "1.5.0", "timestamp:1800000000\tfile:manifest.json rollback:1.5.0": "1.5.0", "rollback:1.5.0-rc": "", "rollback:": "", "rollback": "",
		"rollback: 1.5.0": "", "norollback:1.5.0": "", "rollback:1.5.0 rollback:1.6.0": "1.5.0",
	} {
		signature := minisign.SignWithComments(private, []byte("x"), comment, "rollback:9")
		require.Equal(t, want, Rollback(signature), comment)
	}
	require.Empty(t, Rollback(nil))
	require.Empty(t, Rollback([]byte("rollback:1")))
}

// A client that can offer a version, but not sign, can roll back only to versions signed for it, and only from versions up to the one in the signature.
func TestARollbackIsSigned(t *testing.T) {
	public, private := keys(t)
	s := open(t, t.TempDir(), func(c *Config) { c.Keys, c.Canary = []string{public.String()}, false })
	install := func(version, comment string, rollback bool) error {
		file := made(t, 4, 1)
		require.NoError(t, os.WriteFile(s.cfg.Dir+"/.in", file, 0o600))
		manifest := text(t, describe(t, "m", Version(version), file))
		signature := minisign.SignWithComments(private, manifest, comment, "")
		err := s.Install(t.Context(), manifest, signature, ".in", rollback)
		if err != nil {
			require.ErrorIs(t, err, ErrOlder)
		}
		return err
	}
	require.NoError(t, install("1", "", false))
	require.NoError(t, install("2", "rollback:9", false))
	require.Error(t, install("1", "rollback:2", false), "it is not asked for")
	require.ErrorContains(t, install("1", "", true), "-t rollback:2")
	require.ErrorContains(t, install("1", "rollback:1", true), "-t rollback:2")
	require.NoError(t, install("1", "rollback:2", true))
	require.EqualValues(t, "1", status(t, s, "m").Version)
	require.ErrorContains(t, install("2", "", true), "-t rollback:2")
	require.NoError(t, install("2", "rollback:2", true))
	require.NoError(t, install("3", "", false))
	require.ErrorContains(t, install("1", "rollback:2", true), "-t rollback:3", "what permitted a rollback from 2")
	require.EqualValues(t, "3", status(t, s, "m").Version)

	// A version counts as having been in force even if its folder is removed.
	dir := s.cfg.Dir
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, os.RemoveAll(dir+"/m.edge.2"))
	require.NoError(t, os.RemoveAll(dir+"/m.edge.3"))
	s = open(t, dir, func(c *Config) { c.Keys, c.Canary = []string{public.String()}, false })
	list, _ := s.Status()
	require.Empty(t, list)
	for permits, asked := range map[string]bool{"": true, "rollback:2": true, "rollback:3": false} {
		manifest := text(t, describe(t, "m", "1", made(t, 4, 1)))
		_, err := s.Accepts(manifest, minisign.SignWithComments(private, manifest, permits, ""), asked)
		require.ErrorIs(t, err, ErrOlder, permits)
	}
	require.NoError(t, install("1", "rollback:3", true))
	require.NoError(t, install("4", "", false))

	s.cfg.Canary = true
	require.NoError(t, install("5", "", true))
	require.EqualValues(t, "4", status(t, s, "m").Version, "a new version is on trial first, whatever was asked for")
	require.NoError(t, install("5.1", "rollback:5.1", true))
	require.EqualValues(t, "5.1", status(t, s, "m").Version)
}

// The program minisign accepts our signatures, and we accept its signatures.
func TestMinisign(t *testing.T) {
	program, err := exec.LookPath("minisign")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("minisign is missing")
		}
		t.Skip("minisign is not installed")
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...) //nolint:gosec // arguments of this test
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	message := text(t, describe(t, "m", "1", made(t, 4, 1)))
	require.NoError(t, os.WriteFile(dir+"/"+ManifestFile, message, 0o600))
	public, private := keys(t)
	require.NoError(t, os.WriteFile(dir+"/"+SignatureFile, hashed(t, private, message), 0o600))
	require.Contains(t, run("-V", "-m", ManifestFile, "-P", public.String()), "verified")

	run("-G", "-W", "-p", "its.pub", "-s", "its.key")
	key, err := os.ReadFile(dir + "/its.pub")
	require.NoError(t, err)
	trust, err := ParseTrust([]string{string(key)})
	require.NoError(t, err)
	for _, form := range []string{"-H", "-l"} {
		run("-S", form, "-s", "its.key", "-m", ManifestFile, "-x", "by-"+form, "-t", "model m rollback:2")
		signature, err := os.ReadFile(dir + "/by-" + form)
		require.NoError(t, err)
		comment, err := trust.Verify(message, signature)
		require.NoError(t, err, form)
		require.Equal(t, "model m rollback:2", comment)
		require.EqualValues(t, "2", Rollback(signature))
	}
}
