package forecast

import (
	"context"
	"encoding/csv"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// airline is series G of Box and Jenkins, with a step that makes a year a day.
func airline(t *testing.T) *Data {
	file, err := os.Open("testdata/airline.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	s := Series{Start: monday, Step: 2 * time.Hour}
	for _, row := range rows[1:] {
		v, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		s.Values = append(s.Values, v)
	}
	return NewData(s)
}

// TestARIMAParameters estimates Box and Jenkins's airline model, (0,1,1)(0,1,1) of the logarithms. By conditional
// sum of squares R's arima has -0.3772 and -0.5724 (statsmodels' residuals, minimised by scipy, the same).
func TestARIMAParameters(t *testing.T) {
	data := airline(t)
	m := arima{Season: 12, Order: order{0, 1, 1, 0, 1, 1}}
	w := make([]float64, len(data.Values))
	for i, v := range data.Values {
		w[i] = math.Log(v)
	}
	loss := func(x []float64) float64 { // as m.loss, but on all errors, as R has it
		f := filterOf(m.Order, m.Season, x)
		var values, errors []float64
		sum := 0.0
		for i, v := range w {
			values, errors = f.follow(values, errors, v)
			sum += errors[i] * errors[i]
		}
		return sum
	}
	x, err := minimise(context.Background(), loss, []float64{0, 0}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := math.Tanh(x[0]), math.Tanh(x[1]); math.Abs(a+0.3772) > 2e-3 || math.Abs(b+0.5724) > 2e-3 {
		t.Errorf("the parameters are %.4f and %.4f, not -0.3772 and -0.5724", a, b)
	}
	if got := loss(x); math.Abs(got-0.181926) > 1e-5 {
		t.Errorf("the sum of squares is %.6f, not 0.181926", got)
	}
}

// TestARIMAForecasts compares a year's forecasts with those of the exact likelihood (statsmodels 0.13.5,
// SARIMAX(0,1,1)(0,1,1)12).
func TestARIMAForecasts(t *testing.T) {
	data := airline(t)
	m := arima{}
	if err := m.fit(context.Background(), data); err != nil {
		t.Fatal(err)
	}
	want := []float64{450.42, 425.72, 479.00, 492.40, 509.05, 583.34, 670.01, 667.08, 558.19, 497.21, 429.87, 477.24}
	got := make([]float64, len(want))
	if err := m.predict(data, len(data.Values), got); err != nil {
		t.Fatal(err)
	}
	if m.Order.SeasonalD != 1 {
		t.Errorf("the order is %v, without a seasonal difference", m.Order)
	}
	for i := range want {
		if math.Abs(got[i]/want[i]-1) > 0.05 {
			t.Errorf("month %d is forecast as %.1f, not about %.1f", i+1, got[i], want[i])
		}
	}
}

// TestHoltWinters compares forecasts with those of statsmodels 0.13.5 (ExponentialSmoothing, damped trend) from the same
// state and with the same rates. Month 12 is left out: statsmodels forecasts it without the last value's part in the
// season.
func TestHoltWinters(t *testing.T) {
	data := airline(t)
	for kind, want := range map[seasonKind][]float64{
		additive: {465.47422697, 453.76212963, 505.20845085, 518.62859704, 528.60826416, 580.61043517, 633.44276308,
			610.80889183, 512.76984699, 461.84321729, 413.44817832, 466.65883201, 484.768641, 472.09182297},
		multiplicative: {453.29745754, 433.82015433, 501.02671569, 516.38762932, 530.77439991, 604.59941619, 681.77693802,
			663.97622381, 547.43922592, 480.60813365, 412.54808817, 460.43370627, 478.13398842, 456.26725157},
	} {
		m := holtWinters{Kind: kind, Season: 12, Rates: smoothing{0.4, 0.1, 0.3, 0.95}, First: initial(data, kind, 0, 12)}
		got := make([]float64, len(want))
		if err := m.predict(data, len(data.Values), got); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if i != 11 && math.Abs(got[i]-want[i]) > 1e-6 {
				t.Errorf("kind %d, month %d: %.8f, not %.8f", kind, i+1, got[i], want[i])
			}
		}
	}
}

// TestHoltWintersChooses has it find whether the season grows with the level, or whether there is none.
func TestHoltWintersChooses(t *testing.T) {
	for kind, value := range map[seasonKind]func(i int, wave, noise float64) float64{
		noSeason:       func(_ int, _, noise float64) float64 { return 100 + 5*noise },
		additive:       func(i int, wave, noise float64) float64 { return 100 + float64(i) + 50*wave + noise },
		multiplicative: func(i int, wave, noise float64) float64 { return (100 + float64(i)) * (1 + 0.5*wave + 0.01*noise) },
	} {
		random := rand.New(rand.NewPCG(5, 5))
		s := Series{Start: monday, Step: time.Hour}
		for i := range 20 * 24 {
			s.Values = append(s.Values, value(i, math.Sin(2*math.Pi*float64(i)/24), random.NormFloat64()))
		}
		m := holtWinters{}
		if err := m.fit(context.Background(), NewData(s)); err != nil {
			t.Fatal(err)
		}
		if m.Kind != kind {
			t.Errorf("kind %d was chosen, not %d", m.Kind, kind)
		}
	}
}

// TestFormula has it learn factors that forecast better than the prior's.
func TestFormula(t *testing.T) {
	data := NewData(noisyDays(14, 0.05, 3))
	m := newFormula([]int{3})
	if m.Factors[0] != [4]float64{0.7, 0.2, 0.1, 0.3} {
		t.Errorf("untrained factors are %v", m.Factors[0])
	}
	before, after := make([]float64, 3), make([]float64, 3)
	var errorBefore, errorAfter float64
	trained := newFormula([]int{3})
	if err := trained.fit(context.Background(), data); err != nil {
		t.Fatal(err)
	}
	for n := 8 * 288; n < 14*288-3; n++ {
		if err := m.predict(data, n, before); err != nil {
			t.Fatal(err)
		}
		if err := trained.predict(data, n, after); err != nil {
			t.Fatal(err)
		}
		errorBefore += math.Abs(before[2] - data.Values[n+2])
		errorAfter += math.Abs(after[2] - data.Values[n+2])
	}
	if errorAfter > 0.97*errorBefore {
		t.Errorf("training reduces the error from %.0f to %.0f only", errorBefore, errorAfter)
	}
}
