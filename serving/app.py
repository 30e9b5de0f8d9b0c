"""The addresses of the server: the page, its files, the API and its description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from serving.facts import Facts
from serving.problems import NO_ANSWER, OURS, ClientGone, Problem, phrase
from serving.reference import reference_page
from serving.schema import REFUSALS, UPLOAD, Answers, Health, Model, ProblemDetail
from serving.service import Service
from workflow.prediction_rows import Columns, csv_lines

PAGE: Final = Path(__file__).parent / "page"
_STYLE: Final = Path(__file__).parents[1] / "evaluation" / "report.css"
_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}


def make_app(service: Service, facts: Facts, version: str) -> FastAPI:
    """The application without its guards.

    Args:
        service: computes. ``facts``: of :func:`serving.facts.facts_of`. ``version``: of firstread.
    """
    app = FastAPI(
        title=facts["title"],
        version=version,
        description=f"{facts['notice']} Nothing is written to disk; file headers are dropped.",
        docs_url=None,  # FastAPI's own page loads its scripts from another site
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    _add_errors(app)
    _add_page(app)
    _add_api(app, service, facts, version)
    _add_description(app)
    return app


def _add_api(app: FastAPI, service: Service, facts: Facts, version: str) -> None:
    head = {
        "notice": facts["notice"],
        "title": facts["title"],
        "classes": facts["classes"],
        "positive_called": facts["positive_called"],
        "negative_called": facts["negative_called"],
        "threshold": facts["threshold"]["value"],
        "borderline_from": facts["borderline_from"],
    }
    columns = Columns.of(service.predictor)

    @app.get("/api/health", summary="Whether the server answers", responses={200: {"model": Health}})
    async def health() -> Response:
        total = service.counts.total
        said = {"requests": total["requests"], "images": total["images"], "waiting": service.line.reserved}
        return JSONResponse({"status": "ok", "version": version, **said})

    @app.get(
        "/api/model", summary="What the model is, with its threshold and figures", responses={200: {"model": Model}}
    )
    async def model() -> Response:
        return JSONResponse(facts)

    @app.post(
        "/api/predict",
        summary="Answers to one or many image files",
        responses={200: {"model": Answers}, **REFUSALS},
        openapi_extra=UPLOAD,
    )
    async def predict(request: Request, preview: bool = False, heat_map: bool = False) -> Response:
        results = await service.results(request, preview=preview, heat_map=heat_map)
        return JSONResponse({**head, "results": [result.to_dict() for result in results]})

    @app.post(
        "/api/predict.csv",
        summary="The same answers as the table that predict.py writes",
        responses={
            200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "the table"},
            **REFUSALS,
        },
        openapi_extra=UPLOAD,
    )
    async def predict_csv(request: Request) -> Response:
        results = await service.results(request, preview=False, heat_map=False)
        text = "".join(csv_lines(columns, (result.answer for result in results)))
        named = {"Content-Disposition": 'attachment; filename="predictions.csv"'}
        return Response(text, headers=named, media_type="text/csv; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    """The files of the page, read once: no request ever names a path on disk."""
    for path in [*sorted(PAGE.glob("*")), _STYLE]:
        if path.suffix in _KINDS:
            address = "/" if path.name == "index.html" else f"/{path.name}"
            app.add_api_route(address, _file(path), methods=["GET", "HEAD"], include_in_schema=False)


def _file(path: Path) -> Callable[[], Any]:
    content, kind = path.read_bytes(), _KINDS[path.suffix]

    async def send() -> Response:
        return Response(content, media_type=kind)

    return send


def _add_description(app: FastAPI) -> None:
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    described["components"]["schemas"]["ProblemDetail"] = ProblemDetail.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of refusals, which is not used here
        described["components"]["schemas"].pop(name, None)
    page = reference_page(described)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(described)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page)


def _add_errors(app: FastAPI) -> None:
    """Every refusal in the same form."""

    async def refused(request: Request, error: Exception) -> Response:
        return error.response() if isinstance(error, Problem) else OURS.response()

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=NO_ANSWER)

    async def not_there(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        detail = {404: "There is nothing at this address.", 405: "This address does not take this method."}
        said = f"{detail.get(status, phrase(status) + '.')} The addresses are listed at /docs."
        return Problem(status, said, headers=headers).response()

    async def not_understood(request: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": ("?",)}
        return Problem(422, f"'{first['loc'][-1]}' must be true or false.").response()

    app.add_exception_handler(Problem, refused)
    app.add_exception_handler(ClientGone, gone)
    app.add_exception_handler(HTTPException, not_there)
    app.add_exception_handler(RequestValidationError, not_understood)
    app.add_exception_handler(Exception, refused)
