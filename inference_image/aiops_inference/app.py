"""The routes: FastAPI documents them all and serves the slow ones; `/predict` is `endpoint.PredictEndpoint`."""

import contextlib
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from aiops_inference import protocols
from aiops_inference.caller import REQUEST_ID, caller_of
from aiops_inference.codec import encode, encode_error
from aiops_inference.endpoint import PredictEndpoint, form_of_predict
from aiops_inference.errors import InvalidParameterError, NotReadyError, describe
from aiops_inference.openapi import TAGS, complete
from aiops_inference.protocols import version_of
from aiops_inference.reporting import PAGE_HEADERS
from aiops_inference.service import INTERNAL, INTERNAL_ERROR, Service

OK: Final = 200
MAX_SHOWN: Final = 100
LINKS: Final = {
    "predict": "POST /predict",
    "v1": "/v1/models",
    "v2": "/v2",
    "health": "/health",
    "livez": "/livez",
    "drift": "/drift",
    "report": "/drift/report",
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

    app = FastAPIOffline(
        title="AIOps Quality inference",
        description=DESCRIPTION,
        version=metadata.version("aiops-inference"),
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_tags=TAGS,
        redoc_url=None,
        static_url="/docs/assets",
        favicon_url="data:,",
        swagger_ui_parameters={
            "tryItOutEnabled": True,
            "displayRequestDuration": True,
            "defaultModelsExpandDepth": -1,
            "validatorUrl": None,  # or the document is sent to a service on the Internet
        },
    )
    app.router.routes.append(Route("/predict", PredictEndpoint(service, form_of_predict(service)), methods=["POST"]))
    protocols.add_routes(app, service)
    _add_routes(app, service)
    _add_error_handlers(app, service)
    _document(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.get("/", tags=["Operations"], summary="What this is, and where everything is")
    async def index() -> Response:
        _, health = service.health()
        return _json({"service": service.settings.service_name, "version": app.version, **health, "links": LINKS})

    @app.get(
        "/health",
        tags=["Operations"],
        summary="Readiness: 200 once the model is loaded and its golden predictions match",
    )
    async def health() -> Response:
        status, document = service.health()
        return _json(document, status)

    @app.get("/livez", tags=["Operations"], summary="Liveness: the process answers")
    async def livez() -> Response:
        return _json({"status": "ok"})

    @app.get("/metrics", tags=["Operations"], summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        content = await service.exposition(alone=service.asked_by_peer(request.scope))
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    @app.get("/drift", tags=["Drift"], summary="Mergeable drift counts, which the operator reads")
    async def drift(request: Request) -> Response:
        try:
            after = _block_number(request.query_params.get("after", "-1"))
            return _json(await service.drift(after, alone=service.asked_by_peer(request.scope)))
        except (InvalidParameterError, NotReadyError) as error:
            return Response(encode_error(error), error.status, media_type="application/json")

    @app.get(
        "/drift/report",
        tags=["Drift"],
        summary="A page for people: the verdict, the score over time, each feature beside its baseline",
        response_class=HTMLResponse,
    )
    async def drift_report() -> Response:
        try:
            return HTMLResponse(await service.drift_page(), headers=PAGE_HEADERS)
        except NotReadyError as error:
            return Response(encode_error(error), error.status, media_type="application/json")


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:MAX_SHOWN]
        sentences = {404: f"there is no {path}; / lists what there is", 405: f"{path} does not take {request.method}"}
        reasons = {404: "NotFound", 405: "MethodNotAllowed"}
        document = {
            "error": sentences.get(error.status_code, str(error.detail)),
            "reason": reasons.get(error.status_code, "Refused"),
        }
        response = _json(document, error.status_code)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        caller = caller_of(request.scope["headers"])
        service.log.failure("internal error", message=describe(error), **caller.fields)
        response = _json(INTERNAL, INTERNAL_ERROR)
        response.headers[REQUEST_ID.decode()] = caller.request_id.decode()
        return response


def _document(app: FastAPI, service: Service) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        try:
            model = service.model()
        except NotReadyError:
            profile, version = None, ""
        else:
            profile, version = model.artifacts.profile, version_of(model)
        names = {"name": service.settings.service_name, "version": version}
        return complete(generate(), profile, names, service.settings.max_rows)

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI's documentation extends it


def _block_number(text: str) -> int:
    digits = text.removeprefix("-")
    if digits.isdecimal() and text.isascii() and len(digits) < len(str(2**63)):
        return int(text)
    message = f"after is {text[:MAX_SHOWN]!a}; it must be the number of a block"
    raise InvalidParameterError(message, "?after")


def _json(document: object, status: int = OK) -> Response:
    return Response(encode(document), status, media_type="application/json")
