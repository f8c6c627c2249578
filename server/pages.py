"""The pages: their HTML, the static files beside them, and plotly.js."""

import gzip
from functools import cache
from pathlib import Path

import plotly
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

PAGES = {"/chart": "chart.html", "/market": "market.html", "/graph": "graph.html", "/status": "status.html"}
"""Which file stands at which path."""
DAY_S = 86_400
_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


class RevalidatedFiles(StaticFiles):
    """Static files that a browser asks for again by ETag: page and modules always fit each other after an update."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, to be revalidated at each use."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response


def add_pages(app: FastAPI) -> None:
    """Give the application all pages and what they load."""
    static = static_folder()
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def root() -> RedirectResponse:
        return RedirectResponse("/chart")

    for path, file in PAGES.items():
        _add_page(router, path, static / file)

    @router.get("/vendor/plotly.min.js")
    def plotly_js(request: Request) -> Response:
        """The library from the installed package, with the package's version as its tag."""
        tag = f'"plotly-{plotly.__version__}"'
        headers = {"etag": tag, "cache-control": f"public, max-age={DAY_S}", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        packed = "gzip" in request.headers.get("accept-encoding", "")
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(_plotly(packed), media_type="text/javascript", headers=headers)

    app.include_router(router)
    app.mount("/static", RevalidatedFiles(directory=static))


def _add_page(router: APIRouter, path: str, file: Path) -> None:
    @router.get(path, name=file.stem)
    async def page() -> FileResponse:
        return FileResponse(file, headers={"cache-control": "no-cache"})


@cache
def _plotly(packed: bool) -> bytes:
    """plotly.js, 4.8 MB, as it is or packed to a third: once a process, not once a request."""
    content = _PLOTLY.read_bytes()
    return gzip.compress(content, compresslevel=6) if packed else content


def static_folder() -> Path:
    """Beside the package in a checkout, inside it once installed."""
    here = Path(__file__).parent
    installed = here / "static"
    return installed if installed.is_dir() else here.parent / "static"
