package functions

import (
	"fmt"
	"strings"

	"app-offload/functions/infer"
	"app-offload/functions/status"
)

// modelsFail holds while a class names a model that cannot be used.
func modelsFail(s *Service, _ *memory) (status.Severity, string) {
	st := s.local.Stats()
	if st == nil {
		return status.Fine, ""
	}
	var parts []string
	for _, c := range st.Classes {
		if c.Problem != "" {
			parts = append(parts, fmt.Sprintf("class %s, model %s: %s", c.Class, c.Model, c.Problem))
		}
	}
	return when(len(parts) > 0, status.Warning, "models cannot be used, and their tasks go to the cloud: %s", strings.Join(parts, "; "))
}

// modelsDrift holds while what a model sees has left what it saw first.
func modelsDrift(s *Service, _ *memory) (status.Severity, string) {
	st := s.local.Stats()
	if st == nil {
		return status.Fine, ""
	}
	var parts []string
	for _, c := range st.Classes {
		if c.Drifted {
			parts = append(parts, fmt.Sprintf("model %s of class %s (%.0f deviations)", c.Model, c.Class, c.Drift))
		}
	}
	return when(len(parts) > 0, status.Warning, "the data have drifted from what the model saw first, so its confidence is no guide: %s; train it anew", strings.Join(parts, ", "))
}

// modelRolledBack holds while the latest canary of a model was rolled back.
func modelRolledBack(s *Service, _ *memory) (status.Severity, string) {
	st := s.local.Stats()
	if st == nil {
		return status.Fine, ""
	}
	var parts []string
	for _, c := range st.Canaries {
		if c.State == infer.TrialRolledBack {
			parts = append(parts, fmt.Sprintf("version %s of model %s was rolled back, keeping %s: %s", c.Version, c.Model, c.Against, c.Reason))
		}
	}
	return when(len(parts) > 0, status.Warning, "%s", strings.Join(parts, "; "))
}
