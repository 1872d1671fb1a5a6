// Package shed says which tasks are to be dropped, or reduced, while both paths are overloaded.
//
// Overload is seen by the predictions that the policies decide by. The pressure of a class is the predicted age of its next result by the
// sooner path, waiting in all queues and for the parked tasks that are served before it included, over the class's bound (its deadline or
// OverloadAge). A path is overloaded for tasks of value v while a class of value v or more that could use that path has a pressure above 1, or above 1.25, 1.5 and so on for the second and third value
// from below among the classes that give way; it is not any more once the pressure is down to three quarters of that.
// So classes of low value give way first, a class never for the sake of a lower one, and none while all results are predicted in time; and
// because the queues drain while tasks are dropped, no more are than exceed what both paths can do. All quantities are ratios: a node
// on which everything takes ten times as long sheds alike.
//
// Nothing here drops a task: a Gate gives a verdict, and its caller does and counts what follows from it.
package shed
