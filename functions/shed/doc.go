// Package shed selects the tasks to drop, or to reduce, while both paths are overloaded.
//
// Overload is measured by the predictions that the policies use. The pressure of a class is the predicted age of its next result by the sooner path,
// including the wait in all queues and for the parked tasks served before it, over the class's bound (its deadline or OverloadAge). A path is
// overloaded for tasks of value v while a class of value v or more that could use that path has a pressure above 1, or above 1.25, 1.5 and so on for
// the second and third lowest value among the classes that give way. The overload ends once the pressure is down to three quarters of that. So
// classes of low value give way first, a class never gives way for a lower one, and no class gives way while all results are predicted in time.
// Because the queues drain while tasks are dropped, no more tasks are dropped than exceed the capacity of both paths. All quantities are ratios: a
// node on which everything takes ten times as long sheds the same.
//
// The package drops no task itself: a Gate returns a verdict, and its caller applies and counts it.
package shed
