from dreamer.results import curves, style


def test_known_methods_keep_their_colours_whatever_is_beside_them():
    alone, beside = style.method_styles(["no_value"]), style.method_styles(["dreamer", "mine", "no_value", "planet"])
    assert alone["no_value"] == beside["no_value"]
    assert beside["dreamer"]["color"] == style.COLORS[0]
    assert len({look["color"] for look in beside.values()}) == 4


def test_many_methods_differ_by_their_dashes():
    methods = [*curves.NAMES, *(f"m{n}" for n in range(12))]
    assert len({(look["color"], look["linestyle"]) for look in style.method_styles(methods).values()}) == 18
    assert len(style.method_styles([f"m{n}" for n in range(40)])) == 40
