// Package scale decides how many instances a service needs, and when.
//
// queue.go says how many requests instances answer within an objective, and demand.go how many will come, as a distribution. From
// both decide.go makes decisions, or does what the rule of reactive.go does where forecasts do not earn their keep; limits.go holds
// decisions within bounds. optimise.go finds the cheapest mix of several types of instances, and margin.go says what it takes to survive the loss of some.
//
// The package knows numbers and times only: who starts and stops instances is the affair of executor and of brain/orchestrate.
package scale
