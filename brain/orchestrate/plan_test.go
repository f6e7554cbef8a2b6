package orchestrate

import (
	"strings"
	"testing"
	"time"
)

// shape is for example "a b | c" for two phases, and what was dropped in brackets.
func shape(p *Plan) string {
	var phases []string
	for _, phase := range p.Phases {
		var ids []string
		for _, s := range phase {
			ids = append(ids, s.ID)
		}
		phases = append(phases, strings.Join(ids, " "))
	}
	text := strings.Join(phases, " | ")
	for _, d := range p.Dropped {
		text += " [" + d.ID + ": " + d.Why + "]"
	}
	return text
}

func TestMake(t *testing.T) {
	r := func(id string, pattern Pattern, action, target string, needs ...string) Recommendation {
		return Recommendation{ID: id, Pattern: pattern, Action: action, Target: target, Needs: needs}
	}
	policy := Policy{Priority: []Pattern{Scaling, Balancing}}
	for name, c := range map[string]struct {
		all  []Recommendation
		want string
	}{
		"nothing":               {nil, ""},
		"independent":           {[]Recommendation{r("b", Scaling, ScaleUp, "news"), r("a", Scaling, ScaleUp, "web")}, "a b"},
		"an order":              {[]Recommendation{r("c", Scaling, "tell", "web", "b"), r("b", Scaling, ScaleUp, "web", "a"), r("a", Scaling, "reserve", "web")}, "a | b | c"},
		"the same phase":        {[]Recommendation{r("c", Scaling, "x", "web", "a"), r("b", Scaling, "y", "web", "a"), r("a", Scaling, "z", "web")}, "a | b c"},
		"down while warming":    {[]Recommendation{r("a", Scaling, ScaleDown, "web"), r("b", Caching, Warm, "web")}, "a [b: a cache that is warming needs the instances"},
		"other services":        {[]Recommendation{r("a", Scaling, ScaleDown, "web"), r("b", Caching, Warm, "news")}, "a b"},
		"weights while booting": {[]Recommendation{r("a", Balancing, Reweigh, "web"), r("b", Scaling, ScaleUp, "web")}, "b [a: weights would change while instances boot"},
		"up and down":           {[]Recommendation{r("a", Scaling, ScaleUp, "web"), r("b", Scaling, ScaleDown, "web")}, "a [b: instances would start and end"},
		"two patterns":          {[]Recommendation{r("a", Balancing, "drain", "web"), r("b", Scaling, "resize", "web")}, "b [a: two patterns would change the service at once"},
		"two in order":          {[]Recommendation{r("a", Balancing, "drain", "web"), r("b", Scaling, "resize", "web", "a")}, "a | b"},
		"twice":                 {[]Recommendation{r("a", Scaling, ScaleUp, "web"), r("b", Scaling, ScaleUp, "web")}, "a [b: it is recommended twice"},
		"what needs it":         {[]Recommendation{r("a", Scaling, ScaleUp, "web"), r("b", Balancing, Reweigh, "web"), r("c", Caching, "x", "news", "b"), r("d", Caching, "y", "news", "c")}, "a [b: "},
	} {
		p, err := policy.Make(time.Now(), 1, "test", c.all)
		if err != nil || !strings.HasPrefix(shape(p), c.want) || strings.Contains(c.want, "[") != strings.Contains(shape(p), "[") {
			t.Errorf("%s: %s (%v), not %s", name, shape(p), err, c.want)
		}
		if name == "what needs it" && !strings.Contains(shape(p), "[c: it needs b, which is not carried out] [d: it needs c") {
			t.Errorf("%s: %s", name, shape(p))
		}
	}
	for want, all := range map[string][]Recommendation{
		"b -> c -> b":  {r("a", Scaling, "x", "web", "b"), r("b", Scaling, "y", "web", "c"), r("c", Scaling, "z", "web", "b")},
		"a -> a":       {r("a", Scaling, "x", "web", "a")},
		"needs b":      {r("a", Scaling, "x", "web", "b")},
		"name of its":  {r("a", Scaling, "x", "web"), r("a", Scaling, "y", "web")},
		`mendation ""`: {r("", Scaling, "x", "web")},
	} {
		if p, err := policy.Make(time.Now(), 1, "test", all); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, not %q", p, err, want)
		}
	}
	// Of equal importance the surer one is carried out.
	sure := r("b", Scaling, ScaleUp, "web")
	sure.Confidence = 0.9
	if p, err := policy.Make(time.Now(), 1, "test", []Recommendation{r("a", Scaling, ScaleDown, "web"), sure}); err != nil || !strings.HasPrefix(shape(p), "b [a") {
		t.Errorf("%s (%v)", shape(p), err)
	}
}
