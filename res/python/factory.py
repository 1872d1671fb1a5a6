"""The scheduling example that is known from the literature on offloading with Python, with only its import changed."""

from app_offload import EdgeNode, TaskScheduler, estimate_local_processing_time

# Make the edge node.
node = EdgeNode(name="factory-sensor-node", cpu_cores=4, memory_gb=8)
scheduler = TaskScheduler(node)


def dynamic_offload_policy(task):
    # What is known of the task.
    data_size = task.get_metadata("data_size")
    deadline = task.get_metadata("deadline")
    # How long it takes here.
    local_time = estimate_local_processing_time(data_size)
    # To the cloud if it would be late here.
    if local_time > deadline:
        return "cloud"
    else:
        return "local"


# Make the policy known to the scheduler.
scheduler.register_policy("dynamic", dynamic_offload_policy)

tasks = [
    {"data_size": 200, "deadline": 100},  # can be done here at 0.4 ms a KB
    {"data_size": 1000, "deadline": 150},  # has to leave at 0.4 ms a KB
]
for task in tasks:
    result = scheduler.dispatch(task, policy="dynamic")
    print(f"任务结果: {result}")
