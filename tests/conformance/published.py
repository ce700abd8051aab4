"""The published OpenAPI document of the Open Inference Protocol, as a server of one model is checked against it.

It is a package's; what is changed is told here. Written to stdout.
"""

import json
import sys
from importlib import metadata

EXAMPLE = {"id": "42", "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
# A document of a protocol does not list what HTTP and a server's own limits add; what they answer has the protocol's form.
ADDED = ("408", "413", "415", "422", "503")

place = metadata.distribution("mlserver").locate_file("mlserver/rest/openapi/dataplane.json")
document = json.loads(place.read_text())
# Streams and generated text are no part of the protocol's inference, and of no use to a model of tables.
document["paths"] = {
    path: item for path, item in document["paths"].items() if not path.endswith(("_stream", "/generate"))
}
document["components"]["schemas"]["TensorData"] = {"type": "array", "items": {}}  # it says `bytes`, which JSON has not
document["components"]["schemas"]["InferenceErrorResponse"]["required"] = ["error"]  # as the protocol's text has it
document["components"]["schemas"]["Parameters"] = {"type": "object"}  # the protocol leaves names and values to servers
for path, item in document["paths"].items():
    for operation in (item[method] for method in ("get", "post") if method in item):
        error = {
            "description": "",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceErrorResponse"}}},
        }
        added = ADDED if path.endswith("infer") else ("404", "503")
        operation["responses"] |= {status: error for status in added if status not in operation["responses"]}
    if path.endswith("infer"):
        item["post"]["requestBody"]["content"]["application/json"]["example"] = EXAMPLE
        item["post"]["requestBody"]["required"] = True
json.dump(document, sys.stdout)
