"""Workflows' definitions, the commands that they become, what is told of them, and Kubernetes' Jobs."""

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from klinestream.cli.main import app
from klinestream.cli.workflow_commands import wrong_with
from klinestream.market.codec import decode_command, encode_event
from klinestream.market.errors import ConfigError, KlinestreamError, RecordError, WorkflowError
from klinestream.market.events import Order, PipelineEvent, WorkflowCommand
from klinestream.market.workflows import STEPS_MOST, Happened, Runs, detail_of, read_detail
from klinestream.workflow.definition import definitions, read
from klinestream.workflow.kubernetes import Cluster, jobs
from klinestream.workflow.plan import asked, plan, values
from klinestream.workflow.process import Programs, sweep
from tests.ports import free_ports

NOW_MS = 1_790_000_000_000
HEAD = 'about = "a"\n[parameters.word]\nabout = "b"\n'
ONE = f'{HEAD}[[steps]]\nname = "one"\nrun = ["topics", "list"]\n'
WRONG = wrong_with(typer.main.get_command(app))
TEXT = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text()
Shown = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("about = ", "expected TOML"),
        (ONE.replace('"one"', '"one_"'), r"steps.0.name: String should match"),
        (ONE.replace('"one"', '"wait_before"'), "expected another name than wait_before"),
        (HEAD, "steps: Field required"),
        (f"{HEAD}\n[[steps]]\nname = 'One'\nrun = ['topics', 'list']", r"steps.0.name: String should match"),
        (f"{ONE}\n[[steps]]\nname = 'one'\nrun = ['topics', 'list']", "expected names that differ, got one twice"),
        (ONE.replace('"list"', '"{wrod}"'), r"step one: expected of \{word\}, \{out\}, got '\{wrod\}'"),
        (ONE.replace('"list"', '"{one.out}"'), "only a former step"),
        (ONE.replace('"list"', '"{word"'), "got '{word'"),
        (ONE.replace('"list"', '"lits"'), "step one: expected a command of klinestream, check, create, list; got 'topics lits'"),
        (ONE.replace('"topics", "list"', '"workflow", "run"'), "got 'workflow'"),
        (f"{ONE}attempts = 0", "steps.0.attempts: Input should be greater than"),
        (f"{ONE}memory = 'much'", "steps.0.memory"),
        (f"{ONE}colour = 'red'", "steps.0.colour: Extra inputs"),
    ],
)
def test_a_fault_in_a_definition_is_named(text: str, said: str) -> None:
    """Where it is, what was expected, and what came."""
    with pytest.raises(ConfigError, match=said):
        read(text, "tiny.toml", "tiny", WRONG)


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "expected word=… for tiny"), (["wrod=1"], "with a name of word; got 'wrod=1'"), (["word"], "got 'word'")],
)
def test_parameters_are_checked_before_anything_runs(words: list[str], said: str) -> None:
    """Unknown ones, ones without a value, and those that are lacking."""
    with pytest.raises(ConfigError, match=said):
        asked(read(ONE, "tiny.toml", "tiny"), words)


def test_the_workflows_that_come_along_are_sound(tmp_path: Path) -> None:
    """Their commands exist, with all the options that they use; the docs tell of their steps and parameters."""
    found = definitions(tmp_path, WRONG)
    assert list(found) == ["train"]
    parameters = values(found["train"], {"from": "30d", "to": "1h"}, NOW_MS)
    assert (parameters["from"], parameters["to"]) == ("2026-08-22T14:13:20Z", "2026-09-21T13:13:20Z")
    for step in plan(found["train"], parameters, tmp_path):
        command: Any = typer.main.get_command(app)
        words = list(step.argv)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context("klinestream", words)  # raises for an option that isn't there
        assert f"| `{step.name}` |" in TEXT
    assert not [name for name in found["train"].parameters if f"`{name}`" not in TEXT]


def test_a_digest_holds_all_that_a_step_depends_on(tmp_path: Path) -> None:
    """Other parameters, other inputs, or another step before it give another digest from there on, and no other one."""
    known = definitions(tmp_path)["train"]
    parameters = values(known, {"from": "2024-05-06", "to": "2024-05-07", "files": str(tmp_path / "bulk")}, NOW_MS)

    def digests(**changes: str) -> list[str]:
        return [step.digest for step in plan(known, parameters | changes, tmp_path)]

    def differ(found: list[str]) -> list[bool]:
        return [one != other for one, other in zip(before, found, strict=True)]

    before = digests()
    assert differ(digests()) == [False] * 5
    assert differ(digests(folds="2")) == [False, False, False, True, True]
    assert differ(digests(symbols="BTCUSDT")) == [False, True, True, True, True]
    (tmp_path / "bulk").mkdir()
    (tmp_path / "bulk" / "a.zip").write_bytes(b"a")
    assert differ(digests()) == [True] * 5


texts = st.text(max_size=40)
words = st.text("abcXYZ0123456789:,._-", min_size=1, max_size=20)


@settings(max_examples=50)
@given(texts, st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), words, max_size=5))
def test_what_is_told_is_read_again(text: str, fields: dict[str, str]) -> None:
    """Fields come back as they were, whatever the text holds."""
    assert read_detail(detail_of(text, fields))[1] == fields


def test_runs_are_put_together_from_events_and_bounded() -> None:
    """Lost and repeated events do no harm; others' events say nothing; the newest runs are held."""
    runs = Runs(most=2)

    def tell(run: str, happened: Happened, time_ms: int, steps: str, state: str = "running", **fields: object) -> None:
        detail = detail_of("text", {"run": run, "state": state, "steps": steps, **fields})
        runs.take(PipelineEvent("workflow:train", happened, time_ms, detail))

    runs.take(PipelineEvent("producer", "started", 1, "anything"))
    runs.take(PipelineEvent("workflow:train", "pong", 1, "anything"))
    tell("r1", Happened.STEP_STARTED, 10, "load:running,make:waiting", step="load", attempt=1)
    # The end of `load` was lost.
    tell("r1", Happened.STEP_STARTED, 30, "load:done,make:running", step="make", attempt=2)
    tell("r1", Happened.STEP_STARTED, 10, "load:running,make:waiting", step="load", attempt=1)
    [run] = runs.newest()
    assert {name: (step.state, step.attempt) for name, step in run.steps.items()} == {"load": ("done", 1), "make": ("running", 2)}
    tell("r1", Happened.RUN_ENDED, 40, "load:done,make:done", state="done")
    tell("r2", Happened.RUN_STARTED, 50, "load:waiting")
    tell("r3", Happened.RUN_STARTED, 60, "load:waiting")
    assert [each.run for each in runs.newest()] == ["r3", "r2"]
    every = [f"step{number}" for number in range(STEPS_MOST)]
    for happened in (Happened.RUN_STARTED, Happened.STEP_STARTED):
        tell("r4", happened, 70, ",".join(f"{name}:waiting" for name in every), step=every[-1], attempt=3)
    assert runs.newest()[0].steps[every[-1]].attempt == 3, "a workflow may have so many steps"
    with pytest.raises(RecordError, match="expected a text, and then fields"):
        runs.take(PipelineEvent("workflow:train", "run_started", 1, "no fields"))


def test_a_command_survives_the_codec_and_garbage_does_not() -> None:
    """What can't be used raises RecordError that says why."""
    told = WorkflowCommand("workflow:train", Order.START, ("from=30d",), "id", NOW_MS, "test")
    assert decode_command(encode_event(told)) == told
    for wrong, said in (
        (b"{}", "workflow: missing"),
        (encode_event(told).replace(b"start", b"jump"), "command: expected start, stop"),
        # The answer couldn't tell such an id again.
        (encode_event(replace(told, id="my id")), "id: expected up to 100 characters without spaces, = and brackets"),
    ):
        with pytest.raises(RecordError, match=said):
            decode_command(wrong)


@pytest.fixture
def kubernetes(empty_folder: Path) -> Shown:
    assert empty_folder.is_dir()

    def show(*arguments: str) -> list[dict[str, Any]]:
        line = [
            "workflow",
            "kubernetes",
            "train",
            "--image",
            "registry.example/klinestream@sha256:0",
            "--set",
            "from=30d",
            "--set",
            "to=0s",
        ]
        shown = CliRunner().invoke(app, [*line, *arguments])
        if isinstance(shown.exception, KlinestreamError):
            raise shown.exception
        return list(yaml.safe_load_all(shown.stdout))

    return show


def test_its_jobs_are_valid_and_keep_to_the_rules(kubernetes: Shown) -> None:
    """By Kubernetes' own schemas: each step a Job that waits for those before it; not as root, with bounds, secrets by name alone."""
    extra = ("--namespace", "market", "--secret", "klinestream-kafka", "--env", "KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS=kafka:9092")
    found = kubernetes("--run", "nightly-1", *extra)
    assert [job["metadata"]["name"] for job in found] == [
        f"train-nightly-1-{step}" for step in ("load", "features", "graph", "train", "publish")
    ]
    for place, job in enumerate(found):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        spec = job["spec"]["template"]["spec"]
        [container] = spec["containers"]
        assert container["command"][:6] == ["klinestream", "workflow", "step", "train", container["name"], "--run"]
        assert ("initContainers" in spec) is (place > 0)
        for each in (container, *spec.get("initContainers", ())):
            assert each["securityContext"]["readOnlyRootFilesystem"]
            assert each["resources"]["requests"].keys() == {"cpu", "memory"}
            assert each["resources"]["limits"]["memory"]
            assert each["envFrom"] == [{"secretRef": {"name": "klinestream-kafka"}}]
        assert spec["securityContext"]["runAsNonRoot"]
        assert not [word for word in container["command"] if re.fullmatch(r"(from|to)=\d+[smhd]", word)], "ages are times by now"
    assert found[0]["spec"]["backoffLimit"] == 2
    deadlines = [job["spec"]["activeDeadlineSeconds"] for job in found]
    assert deadlines == sorted(deadlines)


def test_names_of_jobs_are_such_as_kubernetes_takes() -> None:
    """Up to 63 characters; no container of a pod has the name of another, and none ends in a dash."""
    steps = "".join(f'[[steps]]\nname = "{name}"\nrun = ["topics", "list"]\n' for name in ("load", "wait", f"{'s' * 31}"))
    for workflow, run, fits in (("w" * 20, "r" * 10, True), ("w" * 20, "r" * 11, False), ("w" * 31, "20261129t211500-3f2a", False)):
        known = read(f'about = "a"\n{steps}', "w.toml", workflow)
        if not fits:
            with pytest.raises(ConfigError, match=r"expected a Job's name of up to 63 characters, got w+-.*: give a shorter --run"):
                jobs(known, {}, run, Cluster("image"))
            continue
        for job in jobs(known, {}, run, Cluster("image")):
            pod = job["spec"]["template"]["spec"]
            names = [each["name"] for each in (*pod["containers"], *pod.get("initContainers", ()))]
            assert len(set(names)) == len(names)
            assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in (*names, job["metadata"]["name"]))


def test_what_is_no_variable_of_ours_is_refused(kubernetes: Shown) -> None:
    """So that a secret doesn't come to stand in a Job by an oversight."""
    with pytest.raises(ConfigError, match="secrets go by --secret"):
        kubernetes("--env", "AWS_SECRET=1")
    with pytest.raises(ConfigError, match="--run: expected up to 25 lower case letters"):
        kubernetes("--run", "Nightly run")


@pytest.mark.parametrize(
    ("argv", "timeout_s", "said"),
    [(("topics", "lits"), 60, "exit code 2: .*No such command 'lits'"), (("standin",), 2, "took longer than 2 s, which is timeout_s")],
)
def test_a_step_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], timeout_s: float, said: str
) -> None:
    """By its last words; one that takes too long is ended, and nothing of it stays."""
    monkeypatch.setenv("KLINESTREAM_STACK__STANDIN_PORT", str(free_ports(1)[0]))
    with pytest.raises(WorkflowError, match=f"(?s){said}"):
        Programs(str(tmp_path), 5.0).run(argv, tmp_path / "step.log", timeout_s, threading.Event())
    assert sweep(str(tmp_path)) == 0


def test_what_the_page_shows_is_so(empty_folder: Path) -> None:
    """Its definition is sound, its CronJob valid, and each `klinestream workflow …` is a command."""
    [toml] = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(read(toml, "nightly.toml", "nightly", WRONG).steps) == 2
    [job] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    cron = yaml.safe_load(job)
    kubernetes_validate.validate(cron, kubernetes_validate.latest_version(), strict=True)
    [container] = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    command: Any = typer.main.get_command(app)
    words = container["command"][1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    # What failed one night must not be tried again every night, with that night's times.
    assert command.make_context("klinestream", words).params["anew"]
    group: Any = typer.main.get_command(app)
    assert set(re.findall(r"klinestream workflow ([a-z]+)", TEXT)) == set(group.commands["workflow"].commands)
    assert empty_folder.is_dir()
    shown = CliRunner().invoke(app, ["workflow", "list"]).stdout
    assert "publish=models/train" in shown
