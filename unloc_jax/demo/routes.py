"""Serves results beside Gradio's page, each at an address that only its owner gets."""

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unloc_jax.demo.service import Service

# Of Gradio's own addresses, those that fetch addresses of the visitor's choice, or that this demo does not use.
_CLOSED = (
    "/proxy=",
    "/file=http:",
    "/file=https:",
    "/process_recording",
    "/deep_link",
    "/vibe-edit",
    "/monitoring",
)
_HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_EXPIRED = "This result is no longer kept. Press “Find” again."


def page_url(token: str, top_k: int, threshold: float) -> str:
    """Returns the address of a result's page, relative to the demo's, so that it holds behind any proxy or tunnel."""
    return f"unloc/{token}/page#most={top_k}&least={threshold:g}"


def routes(service: "Service") -> list[Any]:
    """Returns Starlette's routes of the results of a service: pages and their videos, the latter in ranges."""
    from starlette.requests import Request
    from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def page(request: Request) -> Response:
        result = service.result(request.path_params["token"])
        if result is None:
            return PlainTextResponse(_EXPIRED, 404, _HEADERS)
        return HTMLResponse(result.page(), headers=_HEADERS)

    def video(request: Request) -> Response:
        result = service.result(request.path_params["token"])
        if result is None or not result.video.exists():
            return PlainTextResponse(_EXPIRED, 404, _HEADERS)
        return FileResponse(result.video, media_type=result.mime, headers=_HEADERS)

    return [Route("/unloc/{token}/page", page), Route("/unloc/{token}/video", video)]


class Guard:
    """ASGI middleware: closes the addresses of `_CLOSED`."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = "/" + scope.get("path", "").partition("/gradio_api/")[2]
        if scope["type"] == "http" and path.lower().startswith(_CLOSED):
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("This demo does not offer that.", 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Gone:
    """The sessions of pages that were closed; the latest ones are remembered."""

    def __init__(self, most: int = 10_000):
        self._most = most
        self._sessions: dict[str, None] = {}

    def add(self, session: str | None) -> None:
        if session:
            self._sessions[session] = None
            while len(self._sessions) > self._most:
                with contextlib.suppress(StopIteration, KeyError):
                    del self._sessions[next(iter(self._sessions))]

    def __contains__(self, session: str | None) -> bool:
        return session in self._sessions
