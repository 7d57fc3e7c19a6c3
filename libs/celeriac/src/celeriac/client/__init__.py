"""A client of the HTTP API, for ordinary code and for asyncio; the command line uses it, too.

    with Client("http://127.0.0.1:8000", token) as client:
        submitted = client.submit_task("examples.add", args=[2, 3])
        print(client.wait(submitted.task_id).result)  # 5
        for task in client.each(calls.list_tasks(state="FAILURE")):
            print(task.name, task.error)

    async with AsyncClient("http://127.0.0.1:8000", token) as client:
        submitted = await client.submit_task("examples.add", args=[2, 3])

Both have a method for each operation of the API, of the same name, which `celeriac.client.calls` describes once. What
can be repeated is repeated, for `patience_seconds`, where the API does not answer or says that it may later: a submit
has an `Idempotency-Key` of its own, so that one whose answer was lost submits nothing twice.

A workload's routes are described in the same way, beside it.
"""

from celeriac.client import calls
from celeriac.client.async_client import AsyncClient
from celeriac.client.call import Call
from celeriac.client.client import Client
from celeriac.client.errors import ApiError
from celeriac.client.method import Method

__all__ = ["ApiError", "AsyncClient", "Call", "Client", "Method", "calls"]
