"""What a notebook shows of hits, an index and an encoder: tables in which everything is text."""

from html.parser import HTMLParser

from ragvec import Document, Encoder, Index, Retriever
from ragvec.records import Hit, Hits


class Cells(HTMLParser):
    """The texts of a table's cells by rows, and every tag and attribute that is met."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= set(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1] += data


TABLE = {"table", "thead", "tbody", "tr", "th", "td"}
EVIL = "<script>alert('x')</script><img src=x onerror=\"y\">&amp;"


def test_hits_are_a_table_whatever_they_hold():
    hits = Hits([
        Hit(1, 0.75, "a", "a", "Plants", "make food", {"year": 2020}),
        Hit(2, 0.5, EVIL, EVIL, EVIL, EVIL, {EVIL: EVIL}, weak=True),
    ])  # fmt: skip
    cells = Cells(hits._repr_html_())
    assert cells.tags <= TABLE and cells.attributes == {("style", "text-align: left")}
    assert cells.rows == [
        ["#", "score", "id", "title", "text", "metadata"],
        ["1", "0.7500", "a", "Plants", "make food", "year 2020"],
        ["2", "~0.5000", EVIL, EVIL, EVIL, f"{EVIL} {EVIL}"],
    ]
    assert hits == list(hits) and Hits()._repr_html_().count("<tr>") == 1
    assert len(Cells(Hits([Hit(1, 1.0, "a", "a", "", "x" * 10_000)])._repr_html_()).rows[1][4]) == 300


def test_an_index_an_encoder_and_what_is_found_show_as_tables(tmp_path, tiny_decoder):
    encoder = Encoder.load(tiny_decoder)
    with Index.create(tmp_path / "i<b>", encoder=encoder) as index:
        index.add([Document("1", "plants make food", title="<i>leaf</i>")])
        shown = Cells(index._repr_html_())
        assert shown.tags <= TABLE
        assert ["path", str(tmp_path / "i<b>")] in shown.rows and ["documents", "1"] in shown.rows
        found = Cells(Retriever(index, encoder).retrieve("plants")._repr_html_())
        assert found.rows[1][2:5] == ["1", "<i>leaf</i>", "plants make food"]
        many = Retriever(index, encoder).retrieve_many(["plants", "zzz"], mode="lexical")
        assert [Cells(hits._repr_html_()).rows[1:] != [] for hits in many] == [True, False]
    shown = Cells(encoder._repr_html_())
    assert shown.tags <= TABLE and ["pooling", "mean"] in shown.rows
