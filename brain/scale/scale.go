// Package scale decides how many instances a service needs, and when.
//
// queue.go says how many requests instances answer within an objective; demand.go how many will come, as a distribution;
// optimise.go weighs the cost of instances against that of missing the objective. The package knows numbers and
// times only; who starts and stops instances is brain/orchestrate's affair.
package scale
