"""The API on a run of a random little network: its answers are those of the command line, whatever else is sent beside."""

from __future__ import annotations

import asyncio
import base64
import csv
import dataclasses
import io
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from datamodules.appearance import look
from datamodules.errors import UnreadableImageError
from explain.layers import NoMapsError
from serving import service as service_module
from serving.app import make_app
from serving.counts import Counts
from serving.facts import facts_of
from serving.guards import Guard
from serving.problems import Problem
from serving.schema import FileAnswer, Model
from serving.service import Service
from serving.uploads import Limits
from tests.conftest import make_chest_xray
from tests.datamodules.odd_dicom import SECRET, plain
from tests.workflow.fake_runs import fake_run
from tests.workflow.tiny_run import tiny_run
from workflow.answers import Answer, Unread, answers_of
from workflow.heat_maps import Explainer
from workflow.prediction_rows import Columns, csv_lines
from workflow.predictor import Predictor, load_predictor

Files = list[tuple[str, bytes]]
LIMITS = Limits(max_bytes=2_000_000, max_files=20)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    place = tmp_path_factory.mktemp("app")
    return load_predictor(tiny_run(place / "run", make_chest_xray(place / "chest_xray"), place / "home"))


def png(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def secret_jpeg() -> bytes:
    """A colour picture with EXIF, a comment and an orientation that turns it."""
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = SECRET, 6
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", exif=exif, comment=SECRET.encode())
    return file.getvalue()


def mixed() -> Files:
    return [
        *[(f"{seed}.png", png(seed)) for seed in range(5)],
        ("turned.jpg", secret_jpeg()),
        ("film.dcm", plain()),
        ("text.jpg", b"this is no image at all"),
        ("empty.png", b""),
        ("cut.png", png(9)[:300]),
        ("same name.png", png(10)),
        ("same name.png", png(11)),
    ]


def expected(predictor: Predictor, files: Files) -> list[Answer]:
    """What the command line says of the same bytes."""
    given = predictor.decoding
    images: list[Any] = []
    for name, content in files:
        try:
            size, channels = given["image_size"], given["channels"]
            images.append(look(content, name=name, size=size, channels=channels, interpolation=given["interpolation"]))
        except UnreadableImageError as error:
            images.append(Unread(str(error)))
    return answers_of(predictor, images, [name for name, _ in files])


def served(
    predictor: Predictor,
    act: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]],
    *,
    lines: list[str] | None = None,
    **settings: Any,
) -> Any:
    """What ``act`` finds, which gets a client of a server without a socket."""

    async def run() -> Any:
        counts = Counts(every=0.0, write=(lines if lines is not None else []).append)
        service = Service(predictor, settings.pop("limits", LIMITS), counts=counts, **settings)
        told: dict[str, Any] = {"abstain": True, "heat_maps": service.heat_maps, "no_maps": service.no_maps}
        inner = make_app(service, facts_of(predictor, service.limits, **told), "1.2")
        transport = httpx.ASGITransport(Guard(inner, host="127.0.0.1", counts=counts))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
                found = await act(client)
            assert (service.memory.held, service.line.reserved) == (0, 0)
            counts.tick(last=True)
            return found
        finally:
            service.close()

    return asyncio.run(run())


async def post(client: httpx.AsyncClient, files: Files, path: str = "/api/predict", **query: Any) -> httpx.Response:
    return await client.post(path, files=[("files", file) for file in files], params=query)


def posted(
    predictor: Predictor, files: Files, path: str = "/api/predict", query: dict[str, Any] | None = None, **settings: Any
) -> httpx.Response:
    async def act(client: httpx.AsyncClient) -> httpx.Response:
        return await post(client, files, path, **(query or {}))

    answer: httpx.Response = served(predictor, act, **settings)
    return answer


def test_answers_are_those_of_the_command_line(predictor: Predictor) -> None:
    answer = posted(predictor, mixed())
    assert answer.status_code == 200
    body, wanted = answer.json(), expected(predictor, mixed())
    assert body["classes"] == list(predictor.classes)
    assert body["threshold"] == predictor.point.threshold
    assert body["borderline_from"] == predictor.borderline_from
    names = [field.name for field in dataclasses.fields(Answer)]
    for found, right in zip(body["results"], wanted, strict=True):
        said = {**right.to_dict(), "reasons": list(right.reasons)}
        for name in ("probabilities", "calibrated_probabilities"):
            said[name] = None if said[name] is None else pytest.approx(list(said[name]), abs=1e-6)
        for name in ("score", "calibrated"):
            said[name] = None if said[name] is None else pytest.approx(said[name], abs=1e-6)
        assert {name: found[name] for name in names} == said
    assert [entry["error"] is not None for entry in body["results"]] == [False] * 7 + [True] * 3 + [False] * 2
    assert (body["results"][0]["width"], body["results"][0]["height"]) == (30, 40)


def test_the_table_is_the_one_of_the_command_line(predictor: Predictor) -> None:
    answer = posted(predictor, mixed(), "/api/predict.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    found = list(csv.DictReader(io.StringIO(answer.text)))
    lines = "".join(csv_lines(Columns.of(predictor), expected(predictor, mixed())))
    wanted = list(csv.DictReader(io.StringIO(lines)))
    for row, right in zip(found, wanted, strict=True):
        assert list(row) == list(right)
        for name, value in right.items():
            same = (
                pytest.approx(float(value), abs=1e-6) == float(row[name])
                if name.startswith(("prob", "score", "calib")) and value
                else None
            )
            assert same if same is not None else row[name] == value


def test_many_requests_at_once_get_their_own_answers(predictor: Predictor) -> None:
    files = [(f"{seed}.png", png(seed)) for seed in range(60)]
    wanted = [answer.score for answer in expected(predictor, files)]

    async def act(client: httpx.AsyncClient) -> list[Any]:
        answers = await asyncio.gather(*(post(client, [file]) for file in files))
        return [answer.json()["results"][0] for answer in answers]

    found = served(predictor, act)
    assert [entry["image_id"] for entry in found] == [name for name, _ in files]
    assert [entry["score"] for entry in found] == pytest.approx(wanted, abs=1e-6)
    assert len(set(wanted)) > 50


def picture(uri: str) -> tuple[bytes, Image.Image]:
    content = base64.b64decode(uri.partition(",")[2])
    return content, Image.open(io.BytesIO(content))


def test_pictures_hold_pixels_and_nothing_of_the_headers(predictor: Predictor) -> None:
    assert SECRET.encode() in secret_jpeg()
    assert SECRET.encode() in plain()
    files = [
        ("turned.jpg", secret_jpeg()),
        ("film.dcm", plain()),
        ("text.jpg", b"no image"),
        ("0.png", png(0, (800, 1600))),
    ]
    answer = posted(predictor, files, query={"heat_map": "true"})
    assert SECRET not in answer.text
    turned, film, text, large = answer.json()["results"]
    for entry, size in ((turned, (60, 90)), (film, (48, 40)), (large, (768, 384))):
        content, preview = picture(entry["preview"])
        assert (preview.format, preview.size) == ("JPEG", size)
        assert SECRET.encode() not in content
        assert not dict(preview.getexif())
        heat = picture(entry["heat_map"])[1]
        edge = predictor.decoding["image_size"]
        assert (heat.format, heat.mode, heat.size) == ("PNG", "RGB", (edge, edge))
    assert (turned["width"], turned["height"]) == (60, 90)  # upright
    assert (text["preview"], text["heat_map"], text["heat_map_reason"]) == (None, None, None)
    upright = np.asarray(picture(turned["preview"])[1].convert("L"), dtype=float)
    stored = np.asarray(Image.open(io.BytesIO(secret_jpeg())).convert("L"), dtype=float)
    assert np.corrcoef(np.rot90(stored, -1).ravel(), upright.ravel())[0, 1] > 0.9


def test_pictures_come_only_when_they_are_asked_for(predictor: Predictor) -> None:
    entry = posted(predictor, [("0.png", png(0))]).json()["results"][0]
    assert (entry["preview"], entry["heat_map"]) == (None, None)
    entry = posted(predictor, [("0.png", png(0))], query={"preview": "true"}).json()["results"][0]
    assert entry["preview"].startswith("data:image/jpeg;base64,")
    assert entry["heat_map"] is None


def test_a_network_without_heat_maps_says_so(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_of(*arguments: Any, **named: Any) -> Explainer:
        raise NoMapsError("It has no layer over the image. Train another one.")

    monkeypatch.setattr(service_module, "explainer_of", none_of)
    files = [("0.png", png(0)), ("text.jpg", b"no image")]
    readable, unreadable = posted(predictor, files, query={"heat_map": "true"}).json()["results"]
    assert (readable["heat_map"], readable["heat_map_reason"]) == (None, "It has no layer over the image.")
    assert unreadable["heat_map_reason"] is None
    assert readable["preview"] is not None
    with pytest.raises(NoMapsError, match="no layer"):  # asked for by name, so it is no matter of the network alone
        Service(predictor, LIMITS, heat_maps={"layer": "trunk"})


def test_the_input_check_can_be_kept_from_abstaining(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def answers(*arguments: Any, abstain: bool) -> list[Answer]:
        seen.append(abstain)
        return answers_of(*arguments, abstain=abstain)

    monkeypatch.setattr(service_module, "answers_of", answers)
    for abstain in (True, False):
        assert posted(predictor, [("0.png", png(0))], abstain=abstain).status_code == 200
    assert seen == [True, False]


def test_refusals_have_one_form_and_leave_nothing_behind(predictor: Predictor) -> None:
    async def act(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
        return {
            "too many": await post(client, [("0.png", b"x")] * 21),
            "too large": await post(client, [("0.png", bytes(2_000_001))]),
            "no file": await client.post("/api/predict", files={"other": b"x"}),
            "no form": await client.post("/api/predict", json={}),
            "no truth": await post(client, [("0.png", b"x")], heat_map="perhaps"),
            "no page": await client.get("/nothing"),
            "no method": await client.get("/api/predict"),
            "other page": await client.post("/api/predict", headers={"Origin": "http://evil.example"}),
        }

    found = served(predictor, act)
    statuses = {name: answer.status_code for name, answer in found.items()}
    assert statuses == {
        **{"too many": 413, "too large": 413, "no file": 422, "no form": 415, "no truth": 422},
        **{"no page": 404, "no method": 405, "other page": 403},
    }
    for answer in found.values():
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["detail"].endswith((".", "image.png"))
        assert answer.headers["cache-control"] == "no-store"


def test_a_full_line_refuses_before_it_decodes(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, count: int) -> None:
        raise Problem(503, "The line is full.", limit=1, retry_after=3)

    monkeypatch.setattr("serving.service.Line.reserve", full)
    monkeypatch.setattr(service_module, "read_upload", lambda *arguments, **named: pytest.fail("it was decoded"))
    answer = posted(predictor, [("0.png", png(0))] * 2)
    assert (answer.status_code, answer.json()["limit"]) == (503, 1)
    assert answer.headers["retry-after"] == "3"


def test_a_decoder_that_breaks_costs_one_file_and_is_named_without_the_file(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import reading

    def broken(content: bytes, **named: Any) -> Any:
        if named["name"] == "patient_7.png":
            raise IndexError("patient_7.png")
        return look(content, **named)

    monkeypatch.setattr(reading, "look", broken)
    lines: list[str] = []
    bad, good = posted(predictor, [("patient_7.png", png(0)), ("good.png", png(1))], lines=lines).json()["results"]
    assert bad["error"] == "patient_7.png: it cannot be decoded"
    assert good["error"] is None
    assert any("failed: IndexError in test_app.py" in line for line in lines)
    assert not any("patient_7" in line for line in lines)


def test_a_failing_network_is_an_error_for_those_who_asked_only(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(given: Predictor, images: Any, names: Any, **named: Any) -> list[Answer]:
        if "bad.png" in names:
            raise MemoryError("bad.png")
        return answers_of(given, images, names, **named)

    monkeypatch.setattr(service_module, "answers_of", answers)

    async def act(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await post(client, [(name, png(0))]) for name in ("bad.png", "good.png")]

    lines: list[str] = []
    bad, good = served(predictor, act, lines=lines)
    assert (bad.status_code, good.status_code) == (500, 200)
    assert "bad.png" not in bad.text
    assert not any("bad.png" in line for line in lines)


def test_health_counts(predictor: Predictor) -> None:
    async def act(client: httpx.AsyncClient) -> Any:
        await post(client, mixed())
        return (await client.get("/api/health")).json()

    lines: list[str] = []
    assert served(predictor, act, lines=lines) == {
        "status": "ok",
        "version": "1.2",
        "requests": 1,
        "images": 12,
        "waiting": 0,
    }
    assert lines[-1].endswith(" requests 1, images 12, unreadable 3")


def test_the_description_fits_what_is_sent(predictor: Predictor) -> None:
    async def act(client: httpx.AsyncClient) -> tuple[Any, ...]:
        answers = [await client.get(path) for path in ("/openapi.json", "/api/model", "/docs")]
        result = (await post(client, [("0.png", png(0))])).json()["results"][0]
        return answers[0].json(), answers[1].json(), answers[2].text, result

    described, model, page, result = served(predictor, act)
    assert sorted(result) == sorted(FileAnswer.model_fields)
    assert sorted(model) == sorted(Model.model_fields)
    FileAnswer.model_validate(result)
    Model.model_validate(model)
    assert set(described["paths"]) == {"/api/health", "/api/model", "/api/predict", "/api/predict.csv"}
    for name in (*described["paths"], *described["components"]["schemas"]):
        assert name in page
    for word in ("<script", "https:", "style="):
        assert word not in page


def test_the_page_and_its_files_are_served_and_nothing_else(predictor: Predictor) -> None:
    async def act(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ("/", "/report.css", "/app.py", "/../serve.py", "/..%2fserve.py", "/page/index.html")
        return [await client.get(path) for path in paths]

    page, style, *others = served(predictor, act)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (page.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert [answer.status_code for answer in others] == [404] * 4


def test_the_model_is_described_from_its_run(predictor: Predictor, tmp_path: Path) -> None:
    told: dict[str, Any] = {"abstain": False, "heat_maps": {"method": "hires_cam", "target": "b"}, "no_maps": "none"}
    alone = facts_of(predictor, LIMITS, **told)
    assert alone["headline"] == []
    assert predictor.point.statement in alone["card"][0]["rows"][0]["text"]
    assert alone["heat_maps"] == {"available": False, "method": "hires_cam", "target": "b", "reason": "none"}
    usual = facts_of(predictor, LIMITS, abstain=True, heat_maps={"target": "positive"}, no_maps=None)
    assert usual["heat_maps"] == {"available": True, "method": "hires_cam", "target": None, "reason": None}
    assert alone["limits"] == {"max_bytes": 2_000_000, "max_files": 20, "max_pixels": LIMITS.max_pixels}
    run = fake_run(tmp_path / "run")
    for source in (run, run / "model"):
        facts = facts_of(dataclasses.replace(predictor, source=source), LIMITS, **told)
        assert [row["name"] for row in facts["headline"]] == ["Sensitivity", "Specificity", "AUROC"]
        assert all(row["low"] <= row["value"] <= row["high"] for row in facts["headline"])
        assert "80 test images of 40 lesions" in facts["headline_about"]
        assert {"Use", "Limits"} <= {part["heading"] for part in facts["card"]}
    several = fake_run(tmp_path / "several", classes=["bcc", "mel", "nv"])
    facts = facts_of(dataclasses.replace(predictor, source=several), LIMITS, **told)
    assert [row["name"] for row in facts["headline"]][3:] == ["Balanced accuracy", "Macro AUROC"]


def test_a_network_that_needs_more_than_an_image_is_refused(predictor: Predictor) -> None:
    part = predictor.networks[0]
    description = {**part.description, "network": {**part.description["network"], "metadata": ["age"]}}
    needy = dataclasses.replace(predictor, networks=(dataclasses.replace(part, description=description),))
    with pytest.raises(ValueError, match=r"age beside the image.*predict\.py"):
        Service(needy, LIMITS)
