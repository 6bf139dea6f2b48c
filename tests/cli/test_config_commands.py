"""`dlgsum config`: what is set, by what, what it means, what is wrong, and what differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlgsum.config.explain import explain_all, leaves
from dlgsum.config.groups import packaged_conf
from dlgsum.config.schema import Config
from tests.cli.test_start_up import run


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


SEVEN = """\
training:
  learning_rat: 3e-5
  fp16: true
  eval_strategy: steps
  eval_steps: 300
  save_strategy: steps
  save_steps: 500
  per_device_train_batch_size: 16
  effective_batch_size: 50
general:
  device: cpu
generation:
  max_length: 200
metrics:
  best: rouge_combined
model:
  architecture: t5
  checkpoint: paust/pko-t5-base
"""


class TestValidate:
    def test_seven_mistakes_make_one_report_of_seven_lines(self, tmp_path: Path):
        write(tmp_path / "seven.yaml", SEVEN)
        code, out, err, heavy = run("config", "validate", "seven.yaml", folder=tmp_path)
        assert (code, err, heavy) == (2, "", "")
        title, *lines = out.splitlines()
        assert title == "seven.yaml: not valid"
        assert len(lines) == 7
        for part in (
            "training.learning_rat: there is no such setting; did you mean training.learning_rate? (from seven.yaml:2)",
            "fp16 needs a GPU",
            "T5 overflows in fp16",
            "evaluations (every 300 steps) and checkpoints (every 500 steps) do not meet",
            "effective_batch_size=50 is not divisible",
            "generation.max_length=200 is above tokenizer.decoder_max_len=128",
            "metrics.best=rouge_combined: no such metric",
        ):
            assert sum(part in line for line in lines) == 1, part

    def test_training_gives_the_same_report(self, tmp_path: Path):
        write(tmp_path / "seven.yaml", SEVEN)
        code, _, err, heavy = run("train", "--config", "seven.yaml", folder=tmp_path)
        assert (code, heavy) == (2, "")
        assert err.splitlines()[0] == "error: 7 problems in the configuration:"
        assert len(err.splitlines()) == 8

    def test_several_files_with_overrides(self, tmp_path: Path):
        write(tmp_path / "good.yaml", "training: {learning_rate: 3e-5}\n")
        write(tmp_path / "나쁜.yaml", "training: {learning_rate: -1}\n")
        code, out, _, _ = run("config", "validate", "good.yaml", "나쁜.yaml", "general.seed=x", folder=tmp_path)
        assert code == 2
        assert "good.yaml: not valid\n  • general.seed=x: must be a whole number (from the command line)\n" in out
        assert "나쁜.yaml: not valid" in out and "(from 나쁜.yaml:1)" in out
        code, out, _, _ = run("config", "validate", "good.yaml", folder=tmp_path)
        assert (code, out) == (0, "good.yaml: valid\n")

    def test_without_files_the_environment_is_checked(self, tmp_path: Path):
        assert run("config", "validate", folder=tmp_path)[:2] == (0, "the configuration: valid\n")
        code, out, _, _ = run("config", "validate", folder=tmp_path, BATCH_SIZE="0")
        assert code == 2 and "environment variable BATCH_SIZE" in out

    def test_missing_data_files_have_their_own_exit_code(self, tmp_path: Path):
        settings = "data: {source: csv, train: none.csv, validation: neither.csv}\n"
        write(tmp_path / "a.yaml", settings)
        code, out, _, _ = run("config", "validate", "a.yaml", folder=tmp_path)
        assert code == 3
        assert "none.csv does not exist" in out and "neither.csv does not exist" in out
        # Beside a wrong setting they are in the same report.
        write(tmp_path / "b.yaml", settings + "general: {seed: -1}\n")
        code, out, _, _ = run("config", "validate", "b.yaml", folder=tmp_path)
        assert (code, len(out.splitlines())) == (2, 4)

    def test_what_cannot_be_a_data_set(self, tmp_path: Path):
        (tmp_path / "packed").mkdir()
        (tmp_path / "packed/train.csv.zip").write_bytes(b"PK")
        for name, part in (("a b", "a hub name looks like owner/name"), ("packed", "train.csv.zip")):
            code, out, _, _ = run("config", "validate", "data=hub", f"data.dataset='{name}'", folder=tmp_path)
            assert code == 3 and out.count(part) == 1, out
        assert run("config", "validate", "data=hub", "data.dataset=owner/name", folder=tmp_path)[0] == 0

    def test_a_file_that_is_not_there(self, tmp_path: Path):
        code, out, _, _ = run("config", "validate", "none.yaml", folder=tmp_path)
        assert (code, out) == (2, "none.yaml: not valid\n  • none.yaml: there is no such file\n")

    def test_a_buried_group_is_a_warning(self, tmp_path: Path):
        write(tmp_path / "a.yaml", "metrics: {scorer: char}\n")
        code, out, err, _ = run("config", "validate", "a.yaml", "metrics=kiwi", folder=tmp_path)
        assert (code, err) == (0, "")
        assert "warning: metrics=kiwi has no effect" in out

    def test_what_is_wrong_and_what_is_missing_are_told_apart(self, tmp_path: Path):
        write(tmp_path / "a.yaml", "data: {source: csv, train: a.csv, validation: b.csv}\ngeneral: {seed: x}\n")
        _, out, _, _ = run("config", "validate", "--config", "a.yaml", "--json", folder=tmp_path)
        (told,) = json.loads(out)["files"]
        assert (len(told["problems"]), len(told["data_problems"])) == (1, 2)

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("x: &a [*a]\n", "nested more than 50 deep"),
            ("a: " + "[" * 3000 + "]" * 3000, "cannot be read"),
            ("a: &a0 [1,1,1,1,1,1,1,1,1]\n"
             + "".join(f"b{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)), "100,000 values"),
        ],
        ids=["an alias of itself", "deep", "a bomb of aliases"],
    )  # fmt: skip
    def test_yaml_that_means_mischief(self, tmp_path: Path, text: str, part: str):
        write(tmp_path / "a.yaml", text)
        code, out, err, _ = run("config", "validate", "a.yaml", folder=tmp_path)
        assert (code, err) == (2, "")
        assert part in out

    def test_a_file_in_koreas_older_encoding(self, tmp_path: Path):
        (tmp_path / "a.yaml").write_bytes("meta: {description: 설명}\n".encode("cp949"))
        _, out, _, _ = run("config", "validate", "a.yaml", folder=tmp_path)
        assert "reads as cp949: iconv -f cp949 -t utf-8 a.yaml" in out

    def test_a_package_line_that_is_only_a_comment(self, tmp_path: Path):
        write(tmp_path / "conf/model/late.yaml", "# mine\n# @package _global_\nmodel: {checkpoint: x}\n")
        code, out, _, _ = run("config", "validate", "model=late", folder=tmp_path)
        assert code == 2 and "must come first in the file" in out

    def test_a_model_without_an_encoder(self, tmp_path: Path):
        code, out, _, _ = run("config", "validate", "model.checkpoint=skt/kogpt2-base-v2", folder=tmp_path)
        assert code == 2 and "without an encoder" in out
        assert run("config", "validate", "model.checkpoint=/home/gpt/kobart-ft", folder=tmp_path)[0] == 0

    def test_a_file_where_overrides_go(self, tmp_path: Path):
        code, _, err, _ = run("config", "show", "my.yaml", folder=tmp_path)
        assert code == 2 and "--config my.yaml" in err

    def test_json(self, tmp_path: Path):
        write(tmp_path / "a.yaml", "training: {learning_rate: x}\n")
        code, out, _, _ = run("config", "validate", "a.yaml", "--json", folder=tmp_path)
        told = json.loads(out)
        assert (code, told["valid"], told["files"][0]["valid"]) == (2, False, False)
        assert told["files"][0]["problems"] == ["training.learning_rate=x: must be a number (from a.yaml:1)"]

    @pytest.mark.parametrize("path", sorted(packaged_conf().glob("experiment/*.yaml")), ids=lambda path: path.stem)
    def test_every_shipped_experiment_is_valid(self, tmp_path: Path, path: Path):
        code, out, _, _ = run("config", "validate", f"experiment={path.stem}", folder=tmp_path)
        assert (code, out) == (0, "the configuration: valid\n")


class TestOrigin:
    def test_each_value_says_what_set_it_and_what_it_overrode(self, tmp_path: Path):
        write(tmp_path / "mine.yaml", "# mine\ntraining:\n  learning_rate: 1e-4\n  weight_decay: 0.1\n")
        code, out, _, heavy = run(
            "config", "show", "--origin", "--json", "--config", "mine.yaml", "model=kobart",
            "training.weight_decay=0.2",
            folder=tmp_path, LEARNING_RATE="2e-4",
        )  # fmt: skip
        assert (code, heavy) == (0, "")
        settings = {it["key"]: it for it in json.loads(out)["settings"]}
        assert set(settings) == set(leaves())

        def history(key: str) -> list[tuple[object, str, int | None]]:
            return [(it["value"], it["set_by"]["name"], it["set_by"]["line"]) for it in settings[key]["history"]]

        first, *rest = history("training.learning_rate")
        assert first[:2] == (3e-5, "dlgsum/conf/model/kobart.yaml")
        assert rest == [(1e-4, "mine.yaml", 3), ("2e-4", "LEARNING_RATE", None)]
        assert history("training.weight_decay") == [
            (0.1, "mine.yaml", 4), (0.2, "training.weight_decay=0.2", None)
        ]  # fmt: skip
        assert history("training.adam_beta1") == []

    def test_the_table(self, tmp_path: Path):
        code, out, _, _ = run(
            "config", "show", "--origin", "--changed", "model=kobart_mini", "general.seed=7", folder=tmp_path
        )
        assert code == 0
        (line,) = [line for line in out.splitlines() if "general.seed" in line]
        assert "7" in line and "argument general.seed=7" in line and "42 (default)" in line
        assert "training.adam_epsilon" not in out
        (line,) = [line for line in out.splitlines() if "data.source" in line]
        assert "settled: no data.train is set" in line

    def test_a_path_that_is_only_spelled_out_keeps_its_origin(self, tmp_path: Path):
        for name in ("a", "b"):
            write(tmp_path / f"{name}.csv", "fname,dialogue,summary\na,b,c\n")
        write(tmp_path / "my.yaml", "data: {source: csv, train: a.csv, validation: b.csv}\n")
        _, out, _, _ = run("config", "show", "--origin", "--json", "--config", "my.yaml", folder=tmp_path)
        settings = {it["key"]: it for it in json.loads(out)["settings"]}
        assert [it["set_by"]["name"] for it in settings["data.train"]["history"]] == ["my.yaml"]

    def test_what_was_settled_says_so(self, tmp_path: Path):
        _, out, _, _ = run("config", "show", "--origin", "--json", folder=tmp_path)
        settings = {it["key"]: it for it in json.loads(out)["settings"]}
        assert settings["data.source"]["value"] == "sample"
        assert settings["data.source"]["history"][-1]["set_by"]["kind"] == "choice"
        assert settings["model.checkpoint"]["value"] == "kobart_mini"


class TestExplain:
    def test_a_setting(self, tmp_path: Path):
        code, out, _, heavy = run("config", "explain", "training.learning_rate", "model=kobart", folder=tmp_path)
        assert (code, heavy) == (0, "")
        for part in ("Peak learning rate.", "number", "above 0 and below 10", "5e-05", "3e-05", "kobart.yaml:"):
            assert part in out

    def test_an_enumeration_lists_its_values(self, tmp_path: Path):
        _, out, _, _ = run("config", "explain", "training.batching", folder=tmp_path)
        assert "one of samples, tokens, random" in out

    def test_what_plugins_and_metrics_offer_is_listed(self, tmp_path: Path):
        _, out, _, heavy = run("config", "explain", "metrics.scorer", folder=tmp_path)
        assert "char, google, kiwi" in out and heavy == ""
        _, out, _, heavy = run("config", "explain", "metrics.best", folder=tmp_path)
        assert "rouge_combined_f1, bleu" in out and heavy == ""

    def test_a_choice_of_a_group(self, tmp_path: Path):
        code, out, _, _ = run("config", "explain", "model=kobart", folder=tmp_path)
        assert code == 0 and "now model=kobart" in out

    def test_a_section_and_a_group(self, tmp_path: Path):
        code, out, _, _ = run("config", "explain", "generation", folder=tmp_path)
        assert code == 0
        assert "generation=beam4" in out and "Four beams" in out
        assert "generation.num_beams" in out and "whole number at least 1 and at most 64" in out

    def test_a_group_without_a_section(self, tmp_path: Path):
        code, out, _, _ = run("config", "explain", "experiment", folder=tmp_path)
        assert code == 0 and "experiment=baseline" in out and "The competition baseline" in out

    def test_own_files_are_listed(self, tmp_path: Path):
        write(tmp_path / "conf/training/mine.yaml", "# 우리 팀의 설정\nweight_decay: 0.2\n")
        _, out, _, _ = run("config", "explain", "training", folder=tmp_path)
        assert "training=mine" in out and "우리 팀의 설정" in out

    def test_a_typo(self, tmp_path: Path):
        code, out, err, heavy = run("config", "explain", "training.learning_rat", folder=tmp_path)
        assert (code, out, heavy) == (2, "", "")
        assert "did you mean training.learning_rate?" in err

    def test_every_setting_can_be_explained(self, tmp_path: Path):
        _, out, _, _ = run("config", "explain", "training", "--json", folder=tmp_path)
        told = json.loads(out)["settings"]
        assert [it["key"] for it in told] == [key for key in leaves() if key.startswith("training.")]
        for it in explain_all(Config(), {}):
            assert it.help and it.type and "<class" not in it.type and "typing" not in it.type, it


class TestDiff:
    def test_defaults_and_an_experiment(self, tmp_path: Path):
        code, out, _, heavy = run("config", "diff", "defaults", "baseline", "--json", folder=tmp_path)
        assert (code, heavy) == (0, "")
        found = {it["key"]: (it["left"], it["right"]) for it in json.loads(out)["differences"]}
        assert found["training.learning_rate"] == (5e-5, 1e-5)
        assert found["metrics.scorer"] == ("kiwi", "pltrdy")
        assert "general.seed" not in found

    def test_files_with_their_lines(self, tmp_path: Path):
        write(tmp_path / "a.yaml", "general: {seed: 1}\n")
        write(tmp_path / "b.yaml", "\ngeneral: {seed: 2}\n")
        code, out, err, _ = run("config", "diff", "a.yaml", "b.yaml", folder=tmp_path, BATCH_SIZE="3")
        assert code == 0 and "1 setting differs" in err
        (line,) = [line for line in out.splitlines() if "general.seed" in line]
        assert "a.yaml:1" in line and "b.yaml:2" in line

    def test_the_same(self, tmp_path: Path):
        code, out, _, _ = run("config", "diff", "defaults", "general.seed=42", folder=tmp_path)
        assert (code, out) == (0, "defaults and general.seed=42 are the same configuration.\n")

    def test_overrides_with_blanks_and_files_with_equals_signs(self, tmp_path: Path):
        write(tmp_path / "lr=1.yaml", "training: {learning_rate: 1.0}\n")
        line = "data.train='a b.csv' data.validation=x.csv"
        code, out, _, _ = run("config", "diff", "lr=1.yaml", line, "--json", folder=tmp_path)
        assert code == 0
        found = {it["key"]: (it["left"], it["right"]) for it in json.loads(out)["differences"]}
        assert found["data.train"] == (None, "a b.csv") and found["training.learning_rate"] == (1.0, 5e-5)

    def test_a_run(self, tmp_path: Path):
        folder = tmp_path / "outputs/experiments/20260101_000000_abc12345"
        write(folder / "config.yaml", "general: {seed: 5}\n")
        (folder / "models/best_model").mkdir(parents=True)
        code, out, _, _ = run("config", "diff", "latest", "defaults", folder=tmp_path)
        assert code == 0 and "general.seed" in out

    @pytest.mark.parametrize(
        ("name", "part"), [("baselin", "Did you mean baseline?"), ("none.yaml", "there is no such file")]
    )
    def test_a_name_that_means_nothing(self, tmp_path: Path, name: str, part: str):
        code, out, err, heavy = run("config", "diff", "defaults", name, folder=tmp_path)
        assert (code, out, heavy) == (2, "", "")
        assert part in err


class TestMigrate:
    OLD = Path(__file__).parents[1] / "config/legacy/baseline.yaml"

    def test_the_new_file_gives_the_same_configuration(self, tmp_path: Path):
        code, out, err, heavy = run("config", "migrate", str(self.OLD), "-o", "new.yaml", folder=tmp_path)
        assert (code, heavy) == (0, "")
        assert "general.model_name" in out and "model.checkpoint=digit82/kobart-summarization" in out
        assert "warning: not carried: inference.result_path" in err and "new.yaml is written" in err
        code, out, err, _ = run("config", "diff", str(self.OLD), "new.yaml", folder=tmp_path)
        assert code == 0 and "are the same configuration" in out
        assert "is in the competition baseline's format" in err

    def test_on_the_fly_with_the_lines_of_the_old_file(self, tmp_path: Path):
        for name in ("train", "dev", "test"):
            write(tmp_path / f"data/{name}.csv", "fname,dialogue,summary\na,b,c\n")
        folder = tmp_path / "code"
        old = write(folder / "config.yaml", self.OLD.read_text(encoding="utf-8"))
        code, out, err, _ = run("config", "show", "--origin", "--json", "--config", "config.yaml", folder=folder)
        assert code == 0, err
        assert err.startswith("warning: config.yaml is in the competition baseline's format; 41 of its keys")
        assert "wandb.entity" in err and "dlgsum config migrate config.yaml" in err
        settings = {it["key"]: it for it in json.loads(out)["settings"]}
        lines = old.read_text(encoding="utf-8").splitlines()
        for key, old_name in (
            ("training.eval_strategy", "evaluation_strategy"), ("training.warmup_steps", "warmup_ratio"),
            ("model.checkpoint", "model_name"), ("general.seed", "seed"), ("data.train", "data_path"),
        ):  # fmt: skip
            (origin,) = [it["set_by"] for it in settings[key]["history"] if it["set_by"]["name"] == "config.yaml"]
            assert old_name in lines[origin["line"] - 1], key

    def test_the_notice_comes_once_also_where_the_model_is_chosen_later(self, tmp_path: Path):
        write(tmp_path / "old.yaml", "training: {evaluation_strategy: epoch}\ninference: {num_beams: 2}\n")
        code, _, err, _ = run("config", "show", "--config", "old.yaml", folder=tmp_path)
        assert code == 0 and err.count("competition baseline's format") == 1

    def test_standard_output_is_the_file_alone(self, tmp_path: Path):
        code, out, err, _ = run("config", "migrate", str(self.OLD), folder=tmp_path)
        assert code == 0 and out.startswith("# @package _global_") and "→" in err
        write(tmp_path / "conf/experiment/old.yaml", out)
        code, out, _, _ = run("config", "diff", str(self.OLD), "experiment=old", folder=tmp_path)
        assert "are the same configuration" in out

    @pytest.mark.parametrize(
        ("content", "part"),
        [
            (b"", "holds no settings"),
            ("general: {model_name: 가}\n".encode("cp949"), "cp949"),
            (b"- 1\n", "expected sections"),
        ],
    )
    def test_files_that_cannot_be_migrated(self, tmp_path: Path, content: bytes, part: str):
        (tmp_path / "old.yaml").write_bytes(content)
        code, out, err, heavy = run("config", "migrate", "old.yaml", folder=tmp_path)
        assert (code, out, heavy) == (2, "", "")
        assert part in err

    def test_nothing_is_overwritten(self, tmp_path: Path):
        write(tmp_path / "new.yaml", "mine")
        code, _, err, _ = run("config", "migrate", str(self.OLD), "-o", "new.yaml", folder=tmp_path)
        assert code == 2 and "--force" in err
        assert (tmp_path / "new.yaml").read_text() == "mine"
