from lime_model.features import Categorical, Numeric
from lime_model.specify import spec_of, vocabulary_of
from lime_model.windows import Window, windows_of


def test_the_vocabulary_counts_training_events_over_all_versions_of_an_item() -> None:
    versions = Window("u", ["a", "a", "b", "c"], ["{}", '{"x":1}', "{}", "{}"], ["v"] * 4, [1, 2, 3, 4])
    again = Window("v", ["b", "c"], ["{}", "{}"], ["v"] * 2, [1, 2])
    # c: one validation event each; b: two training events; a: two versions of one item
    assert vocabulary_of(windows_of([versions, again]), 4).items == ("a", "b")


def test_the_spec_holds_sorted_values_slots_means_and_types() -> None:
    spec = spec_of(['{"g":["b","a"],"y":1.0}', '{"g":["c"],"y":3.0}', '{"s":"one"}'], ["view", "like"])
    assert spec.categorical == (Categorical("g", ("a", "b", "c"), 2), Categorical("s", ("one",), 1))
    assert spec.numeric == (Numeric("y", 2.0, 1.0),)
    assert spec.event_types == ("like", "view")


def test_a_number_that_never_varies_is_left_out() -> None:
    assert spec_of(['{"y":5}', '{"y":5}'], []).numeric == ()
