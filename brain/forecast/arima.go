package forecast

import (
	"context"
	"math"
)

// arima is a seasonal ARIMA model of the logarithms, with a season of a day (Box and Jenkins, "Time Series Analysis", 1970).
// Its parameters have the least conditional sum of squares. Its orders have the least AICc (Hurvich and Tsai, Biometrika
// 1989), found step by step from few candidates (Hyndman and Khandakar, "Automatic Time Series Forecasting", 2008).
type arima struct {
	Order  order
	Season int
	X      []float64 // parameters as minimise knows them, see filterOf
	Mean   float64   // of the logarithms
	Begin  int       // the first step learnt from
	Chosen int       // number of values when the orders were chosen

	filter *filter
	values []float64 // logarithms less Mean, from Begin on; one that is not known is as forecast
	errors []float64 // one-step errors of the same
}

// order has the numbers of terms of an ARIMA(AR,D,MA)(SeasonalAR,SeasonalD,SeasonalMA) model.
type order struct{ AR, D, MA, SeasonalAR, SeasonalD, SeasonalMA int }

func (o order) parameters() int { return o.AR + o.MA + o.SeasonalAR + o.SeasonalMA }

// reach is how many values before it the model forecasts a value from.
func (o order) reach(season int) int { return o.AR + o.D + season*(o.SeasonalAR+o.SeasonalD) }

// filter is a model as one recursion: value = Σ ar·earlier values + Σ ma·earlier errors + error.
type filter struct {
	ar, ma []term
	reach  int
}

// term is what has the value so many steps before.
type term struct {
	lag    int
	factor float64
}

// filterOf multiplies out the operators of an order. The parameters are any numbers, whose hyperbolic tangents are partial
// autocorrelations: so the model is stationary and invertible (Monahan, Biometrika 1984).
func filterOf(o order, season int, x []float64) *filter {
	take := func(n int) []float64 {
		coefficients := fromPartial(x[:n])
		x = x[n:]
		return coefficients
	}
	ar, ma := []float64{1}, []float64{1}
	ar = multiply(ar, 1, take(o.AR), -1)
	ma = multiply(ma, 1, take(o.MA), 1)
	ar = multiply(ar, season, take(o.SeasonalAR), -1)
	ma = multiply(ma, season, take(o.SeasonalMA), 1)
	for range o.D {
		ar = multiply(ar, 1, []float64{1}, -1)
	}
	for range o.SeasonalD {
		ar = multiply(ar, season, []float64{1}, -1)
	}
	return &filter{terms(ar, -1), terms(ma, 1), o.reach(season)}
}

// fromPartial returns the coefficients of an autoregression with partial autocorrelations tanh(x) (Durbin and Levinson).
func fromPartial(x []float64) []float64 {
	var coefficients []float64
	for k, v := range x {
		r := math.Tanh(v)
		next := make([]float64, k+1)
		for i, c := range coefficients {
			next[i] = c - r*coefficients[k-1-i]
		}
		next[k] = r
		coefficients = next
	}
	return coefficients
}

// multiply returns a polynomial of the backshift operator, by power, times 1 + Σ sign·factors[i]·B^((i+1)·lag).
func multiply(p []float64, lag int, factors []float64, sign float64) []float64 {
	product := make([]float64, len(p)+lag*len(factors))
	copy(product, p)
	for i, f := range factors {
		for power, c := range p {
			product[power+(i+1)*lag] += sign * f * c
		}
	}
	return product
}

// terms returns the powers of a polynomial from 1 on, without those that are 0.
func terms(p []float64, sign float64) []term {
	var list []term
	for lag := 1; lag < len(p); lag++ {
		if p[lag] != 0 {
			list = append(list, term{lag, sign * p[lag]})
		}
	}
	return list
}

// next forecasts the value at step i from the values and errors before it; errors that are not known are 0.
func (f *filter) next(values, errors []float64, i int) float64 {
	sum := 0.0
	for _, t := range f.ar {
		sum += t.factor * values[i-t.lag]
	}
	for _, t := range f.ma {
		if j := i - t.lag; j >= 0 && j < len(errors) {
			sum += t.factor * errors[j]
		}
	}
	return sum
}

// follow appends the value of the next step, NaN when it is not known, and its error.
func (f *filter) follow(values, errors []float64, value float64) ([]float64, []float64) {
	i := len(values)
	if i < f.reach {
		return append(values, orZero(value)), append(errors, 0)
	}
	forecast := f.next(values, errors, i)
	if math.IsNaN(value) {
		value = forecast
	}
	return append(values, value), append(errors, value-forecast)
}

const (
	arimaDays     = 21  // of the past that parameters are estimated on
	arimaTry      = 120 // evaluations for each candidate
	arimaFinalTry = 400
	arimaTries    = 24 // candidates
)

// fit estimates the parameters, and once a week chooses the orders.
func (m *arima) fit(ctx context.Context, data *Data) error {
	n, season := len(data.Values), data.Steps(Day)
	fresh := arima{Season: season, Begin: max(n-arimaDays*season, 0), Chosen: m.Chosen, Order: m.Order, X: m.X}
	if known(data.Values[fresh.Begin:]) < 40 {
		return ErrTooShort
	}
	w := fresh.learnFrom(data)
	if m.X == nil || n-m.Chosen >= 7*season {
		if err := fresh.choose(ctx, w); err != nil {
			return err
		}
		fresh.Chosen = n
	}
	x, err := minimise(ctx, fresh.loss(w, fresh.Order), fresh.X, arimaFinalTry)
	if err != nil {
		return err
	}
	fresh.X = x
	fresh.restart()
	*m = fresh
	return nil
}

// learnFrom returns the logarithms from Begin on, and sets their mean.
func (m *arima) learnFrom(data *Data) []float64 {
	n := len(data.Values)
	t := data.over(m.Begin, n)
	m.Mean = t.logs / t.count
	w := make([]float64, n-m.Begin)
	for i := range w {
		w[i] = toLog(data.lesson(m.Begin+i)) - m.Mean
	}
	return w
}

// loss returns the function to be minimised: the logarithm of the mean squared error of one step, where known.
func (m *arima) loss(w []float64, o order) func(x []float64) float64 {
	begin := m.judgedFrom(w)
	values, errors := make([]float64, 0, len(w)), make([]float64, 0, len(w))
	return func(x []float64) float64 {
		f := filterOf(o, m.Season, x)
		values, errors = values[:0], errors[:0]
		sum, count := 0.0, 0.0
		for i, v := range w {
			values, errors = f.follow(values, errors, v)
			if i >= max(begin, f.reach) && !math.IsNaN(v) {
				sum += errors[i] * errors[i]
				count++
			}
		}
		if count == 0 {
			return math.Inf(1)
		}
		return math.Log(sum/count + 1e-12)
	}
}

// judgedFrom is the first value whose error counts: the same for all orders, so that they can be compared.
func (m *arima) judgedFrom(w []float64) int {
	if m.seasonal(w) {
		return order{2, 1, 0, 1, 1, 0}.reach(m.Season)
	}
	return 3
}

// seasonal says that there are enough values to tell a season.
func (m *arima) seasonal(w []float64) bool { return len(w) >= 4*m.Season }

// choose sets the order with the least AICc, and its parameters. From the best of some usual orders it goes to better
// neighbours until there is none.
func (m *arima) choose(ctx context.Context, w []float64) error {
	tried := map[order]bool{}
	best, found := math.Inf(1), order{}
	try := func(o order) error {
		if tried[o] || len(tried) >= arimaTries || !m.allowed(o, w) {
			return nil
		}
		tried[o] = true
		loss := m.loss(w, o)
		x, err := minimise(ctx, loss, make([]float64, o.parameters()), arimaTry)
		if err != nil {
			return err
		}
		if value := aicc(loss(x), float64(known(w)), float64(o.parameters()+1)); value < best {
			best, found, m.X = value, o, x
		}
		return nil
	}
	for _, o := range []order{{0, 1, 1, 0, 0, 0}, {1, 0, 1, 0, 0, 0}, {1, 1, 1, 0, 1, 1}, {1, 0, 1, 0, 1, 1}, {1, 0, 1, 1, 0, 0}, {2, 1, 1, 1, 0, 0}} {
		if err := try(o); err != nil {
			return err
		}
	}
	for from := (order{-1, 0, 0, 0, 0, 0}); from != found; {
		from = found
		for _, o := range neighbours(from) {
			if err := try(o); err != nil {
				return err
			}
		}
	}
	m.Order = found
	return nil
}

// aicc is Akaike's criterion with the correction for few values, from the logarithm of the mean squared error.
func aicc(logError, n, parameters float64) float64 {
	return n*logError + 2*parameters + 2*parameters*(parameters+1)/max(n-parameters-1, 1)
}

// neighbours are the orders with one term more or less.
func neighbours(o order) []order {
	var list []order
	for _, by := range []int{-1, 1} {
		for _, change := range []func(*order){
			func(o *order) { o.AR += by },
			func(o *order) { o.MA += by },
			func(o *order) { o.AR += by; o.MA += by },
			func(o *order) { o.SeasonalAR += by },
			func(o *order) { o.SeasonalMA += by },
		} {
			next := o
			change(&next)
			list = append(list, next)
		}
	}
	return list
}

func (m *arima) allowed(o order, w []float64) bool {
	within := func(v, most int) bool { return v >= 0 && v <= most }
	if o.SeasonalAR+o.SeasonalD+o.SeasonalMA > 0 && !m.seasonal(w) {
		return false
	}
	return within(o.AR, 2) && within(o.MA, 2) && within(o.SeasonalAR, 1) && within(o.SeasonalMA, 1)
}

// restart begins to follow the values anew.
func (m *arima) restart() {
	m.filter = filterOf(m.Order, m.Season, m.X)
	m.values, m.errors = nil, nil
}

// predict forecasts from the first n values, which it follows as far as it has not yet.
func (m *arima) predict(data *Data, n int, out []float64) error {
	if m.Season == 0 || m.Begin < 0 || n-m.Begin < m.Order.reach(m.Season) {
		return ErrTooShort
	}
	if m.filter == nil {
		m.restart()
	}
	for i := m.Begin + len(m.values); i < n; i++ {
		m.values, m.errors = m.filter.follow(m.values, m.errors, toLog(data.lesson(i))-m.Mean)
	}
	values, errors := m.values[:n-m.Begin:n-m.Begin], m.errors[:n-m.Begin]
	for k := range out {
		values = append(values, m.filter.next(values, errors, len(values)))
		out[k] = times(fromLog(values[len(values)-1]+m.Mean), data.lift(n, n+k))
	}
	return nil
}
