"""The routes: FastAPI documents them all and serves the slow ones; `/predict` is `endpoint.PredictEndpoint`."""

import contextlib
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Route

from aiops_inference import protocols
from aiops_inference.caller import REQUEST_ID, caller_of
from aiops_inference.codec import encode, encode_error
from aiops_inference.endpoint import PredictEndpoint, form_of_predict
from aiops_inference.errors import InvalidParameterError, NotReadyError, describe
from aiops_inference.openapi import PREDICT, V1_PATH, V1_PREDICT, V2_INFER, V2_PATH
from aiops_inference.service import Service

OK: Final = 200
MAX_SHOWN: Final = 100
LINKS: Final = {
    "predict": "POST /predict",
    "v1": "/v1/models",
    "v2": "/v2",
    "health": "/health",
    "livez": "/livez",
    "drift": "/drift",
    "metrics": "/metrics",
    "docs": "/docs",
}
DESCRIPTION: Final = """Serves one model and tells whether it still sees the data it was trained on.

`drift_score` is the largest, over the features, of |mean of the request's rows - baseline mean| / baseline deviation;
`drift_detected` says that some feature is beyond its threshold (5 unless configured)."""


def create_app(service: Service) -> FastAPI:
    """The ASGI application of one service, which runs for as long as the application's lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="AIOps Quality inference",
        description=DESCRIPTION,
        version=metadata.version("aiops-inference"),
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.router.routes.append(Route("/predict", PredictEndpoint(service, form_of_predict(service)), methods=["POST"]))
    protocols.add_routes(app, service)
    _add_routes(app, service)
    _add_error_handlers(app, service)
    _document_predict(app)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.get("/", summary="What this is, and where everything is")
    async def index() -> Response:
        _, health = service.health()
        return _json({"service": service.settings.service_name, "version": app.version, **health, "links": LINKS})

    @app.get("/health", summary="Readiness: 200 once the model is loaded and its golden predictions match")
    async def health() -> Response:
        status, document = service.health()
        return _json(document, status)

    @app.get("/livez", summary="Liveness: the process answers")
    async def livez() -> Response:
        return _json({"status": "ok"})

    @app.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/drift", summary="Mergeable drift counts; ?after=N leaves out the blocks up to number N")
    async def drift(request: Request) -> Response:
        try:
            return _json(await service.drift(_block_number(request.query_params.get("after", "-1"))))
        except (InvalidParameterError, NotReadyError) as error:
            return Response(encode_error(error), error.status, media_type="application/json")


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:MAX_SHOWN]
        sentences = {404: f"there is no {path}; / lists what there is", 405: f"{path} does not take {request.method}"}
        document = {"error": sentences.get(error.status_code, str(error.detail))}
        response = _json(document, error.status_code)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        caller = caller_of(request.scope["headers"])
        service.log.failure("internal error", message=describe(error), **caller.fields)
        response = _json({"error": "internal error; the pod's log says more", "reason": "InternalError"}, 500)
        response.headers[REQUEST_ID.decode()] = caller.request_id.decode()
        return response


def _document_predict(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["paths"] |= {"/predict": PREDICT, V1_PATH: V1_PREDICT, V2_PATH: V2_INFER}
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI's documentation extends it


def _block_number(text: str) -> int:
    if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < len(str(2**63)):
        return int(text)
    message = f"after is {text[:MAX_SHOWN]!a}; it must be the number of a block"
    raise InvalidParameterError(message, "?after")


def _json(document: object, status: int = OK) -> Response:
    return Response(encode(document), status, media_type="application/json")
