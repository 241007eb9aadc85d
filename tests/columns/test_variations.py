"""What a variation is called everywhere, and which samples it is declared for."""

from __future__ import annotations

from dataclasses import replace

from small_analysis import preprocess_config

from utils.columns.variations import LEAST_ROWS, rows_at_once, shifts_of, variations_of


def test_names_and_samples_follow_from_the_declaration() -> None:
    config = preprocess_config(
        variations={
            "tauES": {
                "up": "{branch}__tauESUp",
                "down": "{branch}__tauESDown",
                "samples": ["simulation"],
                "nuisance": "CMS_scale_t",
            },
            "btag": {"weight_up": "w_up / w", "one_sided": "mirror"},
            "tune": {"samples_up": {"S": "T"}, "samples_down": {"S": "T2"}},
        }
    )
    by_name = {variation.name: variation for variation in variations_of(config)}
    up, down = by_name["tauES"].shifts
    assert (up.suffix, up.replacement, up.where) == (
        *("tauESUp", "{branch}__tauESUp"),
        "variations.tauES.up",
    )
    assert down.named("pred_class") == "pred_class__tauESDown"
    assert up.described == {
        **{"suffix": "tauESUp", "variation": "tauES", "direction": "Up", "kind": "branches"},
        **{"nuisance": "CMS_scale_t", "one_sided": False},
    }
    [only] = by_name["btag"].shifts
    assert (only.where, only.variation.nuisance) == ("variations.btag.weight_up", "btag")
    assert by_name["tune"].kind == "samples"

    [data] = preprocess_config().read_samples
    simulated = replace(data, tags=("simulation",))
    assert [s.suffix for s in shifts_of(config, data)] == ["btagUp"]
    assert [s.suffix for s in shifts_of(config, simulated)] == ["tauESUp", "tauESDown", "btagUp"]
    assert by_name["tune"].concerns(data)
    assert not by_name["tune"].concerns(replace(data, name="other"))


def test_shifts_share_the_room_of_the_nominal_rows() -> None:
    assert rows_at_once(24_576, 0) == 24_576
    assert rows_at_once(24_576, 1) == 12_288
    assert rows_at_once(24_576, 20) == LEAST_ROWS
    assert rows_at_once(100, 20) == 100
