"""A gateway's app-offload as the scheduler of any Python program. One file, the standard library only, Python 3.8 or newer.

    from app_offload import EdgeNode, TaskScheduler, estimate_local_processing_time

    node = EdgeNode(name="factory-sensor-node", cpu_cores=4, memory_gb=8)
    scheduler = TaskScheduler(node)
    print(scheduler.dispatch({"data_size": 1000, "deadline": 150}, policy="deadline"))

A policy is a function of a task that returns "local" or "cloud", registered under a name, or one of the node's policies:
weighted, deadline, cost, bandit, ppo, defer, edge, cloud, random. The node's guards override it: with the link down, a task
with a deadline is local. The node records each decision, and its page and API explain it.

EdgeNode(url=...) is the address of the node; the default is APP_OFFLOAD_URL of the environment. OFFLOAD_TOKEN is the JWT for
secure mode. Sizes are KB of 1,024 bytes, times are milliseconds, a complexity is 0 to 100.
"""

import json
import os
import urllib.error
import urllib.request

__all__ = ["EdgeNode", "NodeError", "Placement", "Task", "TaskScheduler", "estimate_local_processing_time"]

DEFAULT_URL = "http://localhost:59740"
DEFAULT_COMPLEXITY = 50

# The node's policies that always select one target.
_FIXED = {"local": "edge", "cloud": "cloud"}


class NodeError(Exception):
    """The node is unreachable, or refused the request; the message has the reason."""


class EdgeNode:
    """A gateway that runs app-offload.

    cpu_cores and memory_gb are for the program's own use; decisions depend on the node's measurements.
    """

    _latest = None  # the node that estimate_local_processing_time asks

    def __init__(self, name="edge", cpu_cores=None, memory_gb=None, url=None, token=None, timeout=10.0):
        self.name = name
        self.cpu_cores = cpu_cores
        self.memory_gb = memory_gb
        self.url = (url or os.environ.get("APP_OFFLOAD_URL") or DEFAULT_URL).rstrip("/")
        self.timeout = timeout
        self._token = token or os.environ.get("OFFLOAD_TOKEN")
        EdgeNode._latest = self

    def __repr__(self):
        return "EdgeNode(name=%r, cpu_cores=%r, memory_gb=%r, url=%r)" % (self.name, self.cpu_cores, self.memory_gb, self.url)

    def place(self, data_size, complexity=DEFAULT_COMPLEXITY, deadline=0, policy=""):
        """Asks for the target of a task. The answer has action, localTime, cloudTime, taskId, reason, explanation and more."""
        return self._call("POST", "/task", {"dataSize": data_size, "complexity": complexity, "deadline": deadline, "policy": policy})

    def status(self):
        """The status of the node: counts, link, spool, load."""
        return self._call("GET", "/status")

    def explain(self, task_id):
        """The decision on an earlier task, with its inputs."""
        return self._call("GET", "/decisions/%d" % task_id)["decision"]

    def _call(self, method, path, body=None):
        request = urllib.request.Request(self.url + "/api/v3/offload" + path, method=method)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", "Bearer " + self._token)
        try:
            with urllib.request.urlopen(request, data, timeout=self.timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise NodeError("%s %s: %s: %s" % (method, request.full_url, error.code, _message(error))) from error
        except (OSError, ValueError) as error:
            raise NodeError("%s %s: %s; is app-offload running there?" % (method, request.full_url, error)) from error


def _message(error):
    """The node's reason for an error."""
    text = error.read().decode("utf-8", "replace")
    try:
        return json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text.strip() or error.reason


class Task:
    """The input of a policy: the task's fields, with defaults for those that the node needs."""

    def __init__(self, fields):
        if "data_size" not in fields:
            raise ValueError("the task %r has no data_size, its size in KB" % (fields,))
        self._fields = {"deadline": 0, "complexity": DEFAULT_COMPLEXITY, **fields}

    def get_metadata(self, name, default=None):
        return self._fields.get(name, default)

    def __repr__(self):
        return "Task(%r)" % (self._fields,)


class TaskScheduler:
    """Selects targets for tasks, by policies of the program and of the node."""

    def __init__(self, node):
        self.node = node
        self._policies = {}
        self._dispatched = 0

    def register_policy(self, name, policy):
        """Registers a policy: a function of a Task that returns "local" or "cloud"."""
        if not callable(policy):
            raise TypeError("the policy %r must be a function of a task, not %r" % (name, policy))
        self._policies[name] = policy

    def dispatch(self, task, policy=""):
        """Decides for one task, a dict or a Task, and returns a Placement."""
        task = task if isinstance(task, Task) else Task(task)
        if policy in self._policies:
            policy = self._ask(policy, task)
        answer = self.node.place(task.get_metadata("data_size"), task.get_metadata("complexity"), task.get_metadata("deadline"), policy)
        self._dispatched += 1
        return Placement(self._dispatched, answer)

    def _ask(self, name, task):
        wish = self._policies[name](task)
        if wish not in _FIXED:
            raise ValueError('the policy %r answered %r; it must answer "local" or "cloud"' % (name, wish))
        return _FIXED[wish]


class Placement(dict):
    """The target of a task: task_id counts the scheduler's tasks, action is "local" or "cloud", time_used is the predicted
    time. decision is the id for EdgeNode.explain, and answer is the whole answer of the node."""

    def __init__(self, number, answer):
        action = answer["action"]
        super().__init__(task_id=number, action=action, time_used=_milliseconds(answer[action + "Time"]))
        self.decision = answer["taskId"]
        self.answer = answer


def _milliseconds(value):
    """A predicted time, rounded; None if the target is not available now."""
    return None if value is None else round(value)


def estimate_local_processing_time(data_size, complexity=DEFAULT_COMPLEXITY, node=None):
    """The node's predicted local time for so much data, in ms; by default of the latest EdgeNode."""
    node = node or EdgeNode._latest
    if node is None:
        raise NodeError("make an EdgeNode first: the estimate is the node's")
    return node.place(data_size, complexity, policy="edge")["localTime"]
