"""Routes of V1 and of V2, the Open Inference Protocol: the one model under its name, `SERVICE_NAME`.

Sources: TensorFlow Serving's REST API as KServe serves it (V1), and the Open Inference Protocol's REST specification (V2).
"""

import itertools
from typing import Any

from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Scope

from aiops_inference import forms, tensors
from aiops_inference.codec import encode, encode_error
from aiops_inference.endpoint import PredictEndpoint
from aiops_inference.errors import NotReadyError, UnknownModelError
from aiops_inference.forms import Form
from aiops_inference.service import Model, Service

VERSION_DIGITS = 7  # of the model's digest: what `kubectl get inferenceservices` shows


def add_routes(app: FastAPI, service: Service) -> None:
    """Add all of them."""
    _add_v1(app, service)
    _add_v2(app, service)


def _add_v1(app: FastAPI, service: Service) -> None:
    def form_of(scope: Scope) -> Form:
        _check(service, scope["path_params"])
        return forms.v1

    app.router.routes.append(Route("/v1/models/{name}:predict", PredictEndpoint(service, form_of), methods=["POST"]))

    @app.get("/v1/models", summary="The model's name", tags=["V1"])
    async def v1_models() -> Response:
        return _json({"models": [service.settings.service_name]})

    @app.get("/v1/models/{name}", summary="Whether the model is ready", tags=["V1"])
    async def v1_model(name: str) -> Response:
        if name.endswith(":predict"):
            raise HTTPException(405, headers={"Allow": "POST"})
        return _readiness(service, {"name": name})


def _add_v2(app: FastAPI, service: Service) -> None:
    def form_of(scope: Scope) -> Form:
        _check(service, scope["path_params"])
        model = service.model()
        json_size = next((value for name, value in scope["headers"] if name == tensors.HEADER), None)
        has = model.artifacts.predictor.has_probabilities
        return forms.v2(service.settings.service_name, version_of(model), json_size, has_probabilities=has)

    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        app.router.routes.append(Route(path, PredictEndpoint(service, form_of), methods=["POST"]))

    @app.get("/v2", summary="The server and its extensions", tags=["V2"])
    async def v2_server() -> Response:
        return _json({"name": app.title, "version": app.version, "extensions": [tensors.EXTENSION]})

    @app.get("/v2/health/live", summary="Liveness", tags=["V2"])
    async def v2_live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", summary="Readiness: 200 where the model can be asked", tags=["V2"])
    async def v2_ready() -> Response:
        status, _ = service.health()
        return _json({"ready": status == 200}, status)  # noqa: PLR2004 - OK

    @app.get("/v2/models/{name}", summary="The model's inputs and outputs", tags=["V2"])
    async def v2_model(name: str) -> Response:
        return _metadata(service, {"name": name})

    @app.get("/v2/models/{name}/versions/{version}", summary="The same, of a version", tags=["V2"])
    async def v2_model_version(name: str, version: str) -> Response:
        return _metadata(service, {"name": name, "version": version})

    @app.get("/v2/models/{name}/ready", summary="Whether the model is ready", tags=["V2"])
    async def v2_model_ready(name: str) -> Response:
        return _readiness(service, {"name": name})

    @app.get("/v2/models/{name}/versions/{version}/ready", summary="The same, of a version", tags=["V2"])
    async def v2_model_version_ready(name: str, version: str) -> Response:
        return _readiness(service, {"name": name, "version": version})


def version_of(model: Model) -> str:
    """The first digits of the model file's digest."""
    return model.artifacts.digest.removeprefix("sha256:")[:VERSION_DIGITS]


def _check(service: Service, named: dict[str, str]) -> None:
    """Whether the path names what is served.

    Raises:
        UnknownModelError: it does not.
        NotReadyError: a version is named, and there is no model to compare with.
    """
    if named["name"] != service.settings.service_name:
        message = f"there is no model of this name; the one that is served is {service.settings.service_name}"
        raise UnknownModelError(message)
    if "version" in named and named["version"] != version_of(service.model()):
        message = f"there is no such version; the one that is served is {version_of(service.model())}"
        raise UnknownModelError(message)


def _readiness(service: Service, named: dict[str, str]) -> Response:
    try:
        _check(service, named)
    except (UnknownModelError, NotReadyError) as error:
        return Response(encode_error(error), error.status, media_type="application/json")
    status, _ = service.health()
    return _json({"name": named["name"], "ready": status == 200}, status)  # noqa: PLR2004 - OK


def _metadata(service: Service, named: dict[str, str]) -> Response:
    try:
        _check(service, named)
        model = service.model()
    except (UnknownModelError, NotReadyError) as error:
        return Response(encode_error(error), error.status, media_type="application/json")
    predictor, width = model.artifacts.predictor, len(model.monitor.features)
    targets = predictor.targets
    every = list(itertools.chain.from_iterable(targets))
    shape = [-1] if len(targets) <= 1 else [-1, len(targets)]
    outputs: list[dict[str, Any]] = [
        {"name": forms.PREDICT, "datatype": forms.datatype_of(every) if every else "FP64", "shape": shape}
    ]
    if predictor.has_probabilities and every:
        outputs.append({"name": forms.PREDICT_PROBA, "datatype": "FP64", "shape": [-1, len(every)]})
    return _json(
        {
            "name": service.settings.service_name,
            "versions": [version_of(model)],
            "platform": "python",
            "inputs": [{"name": forms.TENSOR, "datatype": "FP64", "shape": [-1, width]}],
            "outputs": outputs,
        }
    )


def _json(document: object, status: int = 200) -> Response:
    return Response(encode(document), status, media_type="application/json")
