// Package history keeps what was measured of each service, minute by minute, and the events that are known to change its
// traffic. It forecasts nothing.
package history
