package local

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNotationIsRead(t *testing.T) {
	chains, err := parse("summary window=60s slide=10s percentiles=95,50 ; deadband band=0.5 max=1m | rate resource=Temp*; ;range low=-3 high=3")
	require.NoError(t, err)
	texts := make([]string, len(chains))
	for i, c := range chains {
		texts[i] = c.text
	}
	require.Equal(t, []string{
		"summary window=1m0s slide=10s late=1s percentiles=[50 95] samples=1024 resource=* name=",
		"deadband band=0.5 percent=0 max=1m0s resource=* name= | rate over=0s limit=0 resource=Temp* name=",
		"range low=-3 high=3 hysteresis=0 resource=* name=",
	}, texts)
	require.True(t, chains[1].matches("Temperature"))
	require.False(t, chains[1].matches("Pressure"))
}

func TestNothingIsANotation(t *testing.T) {
	for _, text := range []string{"", "  ", "none", " none ", ";"} {
		chains, err := parse(text)
		require.NoError(t, err, "%q", text)
		require.Empty(t, chains)
	}
}

func TestEveryExampleInTheDocsIsValid(t *testing.T) {
	for _, op := range Operators() {
		require.NoError(t, CheckOperators(op.Example), op.Name)
		require.NotEmpty(t, op.Doc)
		require.NotEmpty(t, op.NotFor)
		for _, p := range op.Params {
			require.NotEmpty(t, p.Doc, "%s %s", op.Name, p.Name)
		}
	}
	require.NoError(t, CheckOperators("summary window=60s slide=10s percentiles=50,95,99; deadband band=0.5 max=60s | rate; range low=-3 high=3"))
	sixteen := ""
	for i := range maxChains {
		sixteen += fmt.Sprintf("deadtime time=1s name=n%d;", i)
	}
	require.NoError(t, CheckOperators(sixteen))
}

func TestNotationErrorsSayWhatToDo(t *testing.T) {
	for _, tc := range []struct{ notation, want string }{
		{"sumary window=60s", `operator "sumary": is unknown; did you mean summary?; there are summary, deadband, deadtime, range, rate, anomaly, burn; write it like "summary`},
		{"Range low=1", `operator "Range": is unknown; did you mean range?; there are summary, deadband, deadtime, range, rate, anomaly, burn; write it like "range low=`},
		{"median", `operator "median": is unknown; there are summary, deadband, deadtime, range, rate, anomaly, burn; write it like "summary window=`},
		{"summary window=60", `operator "summary", parameter window = "60": is not a duration such as 500ms, 60s or 1h; write it like`},
		{"summary window=1ms", `parameter window = "1ms": must be between 10ms and 24h0m0s`},
		{"summary window=60s slide=7s", `parameter slide = "7s": must be a whole fraction of window, which is 1m0s`},
		{"summary window=24h slide=1s", `parameter slide = "1s": must be at least a 1024th`},
		{"summary window=1s late=1m", `parameter late = "1m": must be at most 10 windows, 10s`},
		{"summary percentiles=50,101", `parameter percentiles = "50,101": must be a comma-separated list of numbers between 0 and 100, not "101"`},
		{"summary samples=1", `parameter samples = "1": must be a whole number between 16 and 1000000`},
		{"summary widow=60s", `parameter widow = "60s": is unknown; did you mean window?; there are window, slide`},
		{"summary window", `parameter window = "": is not of the form name=value`},
		{"summary window=1s window=2s", `parameter window = "2s": is given twice`},
		{"summary; summary window=1h", `parameter name = "summary": two results would have this name; write it like "summary name=hourly"`},
		{"summary | range low=1", `operator "summary": must be the last operator of its chain; write it like "deadband band=0.5 | summary`},
		{"rate limit=0.1 | range low=1", `operator "rate": must be the last operator of its chain`},
		{"rate limit=3 | range low=1", `operator "rate": must be the last operator of its chain`},
		{"range low=1 | deadtime time=1s", `operator "range": must be the last operator of its chain`},
		{"anomaly | deadtime time=1s", `operator "anomaly": must be the last operator of its chain`},
		{"deadband |", `one side of the bar is empty`},
		{"deadband percent=1000001", `parameter percent = "1000001": must be a number between 0 and 1e+06`},
		{"deadband percent=NaN", "must be a number between 0 and 1e+06"},
		{"deadband band=-1", `parameter band = "-1": must be a finite number from 0 on`},
		{"deadband band=1 percent=2", `parameter percent = "2": cannot be combined with band`},
		{"deadband name=a/b", `parameter name = "a/b": must be at most 64 letters, digits, _ and -`},
		{"deadband resource=[", `parameter resource = "[": is not a glob`},
		{"deadtime", `parameter time = "": is missing; write it like "deadtime time=10s"`},
		{"range", `parameter high = "": is missing, and so is low`},
		{"range low=3 high=1", `parameter low = "3": must not be above high, which is 1`},
		{"range low=1 high=2 hysteresis=0.6", `parameter hysteresis = "0.6": leaves nothing between 1 and 2`},
		{"range low=NaN", `parameter low = "NaN": must be a finite number`},
		{"range high=-inf", `parameter high = "-inf": must be a finite number`},
		{strings.Repeat("deadtime time=1s;", 17), `17 operators, at most 16 are allowed`},
	} {
		err := CheckOperators(tc.notation)
		require.Error(t, err, tc.notation)
		require.Contains(t, err.Error(), tc.want, tc.notation)
		if !strings.HasSuffix(tc.notation, "|") {
			require.NotContains(t, err.Error(), "\n", "one mistake is one problem: %s", tc.notation)
		}
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	err := CheckOperators("summary window=x slide=y; range | deadtime; nonsense")
	for _, want := range []string{"parameter window", "parameter slide", "range", "deadtime", "nonsense"} {
		require.ErrorContains(t, err, want)
	}
	var spec *SpecError
	require.ErrorAs(t, err, &spec)
}

func FuzzNotation(f *testing.F) {
	f.Add("summary window=60s slide=10s percentiles=50,95,99; deadband band=0.5 max=60s | rate; range low=-3 high=3")
	f.Add("range low=1e309 | ; =; a=b=c")
	f.Fuzz(func(t *testing.T, text string) {
		chains, err := parse(text)
		if err != nil {
			return
		}
		var canonical []string
		for _, c := range chains {
			for _, s := range c.start().stages {
				_ = s.due()
			}
			canonical = append(canonical, c.text)
		}
		// A parsed notation can be parsed again, except for lists, which are written with brackets.
		again := strings.NewReplacer("[", "", "]", "").Replace(strings.Join(canonical, ";"))
		if !strings.Contains(text, "percentiles") && !strings.Contains(text, "[") && !strings.Contains(text, "range") && !strings.Contains(text, "summary") {
			require.NoError(t, CheckOperators(again), again)
		}
	})
}
