"""Pasted texts: parse(lenient=True), the command, and the causes that parse() names."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsmaps
from fastsmaps import Mapping, Mappings, ParseError
from support.commands import COMMAND, environment, run
from support.examples import examples
from support.independent import DATA
from support.smaps_texts import header, record

ZOO = (DATA / "captures/6.12-amd64/zoo/smaps").read_bytes()
MAPS = (DATA / "captures/6.12-amd64/zoo/maps").read_bytes()
#: Two processes, with all that a line can have.
A = (
    record(0x55AA00000000, 0x55AA00001000, b"/usr/bin/daemon", perms=b"r-xp", flags=b"rd ex ",
           Size=4, Rss=4, Pss=2, Swap=0)
    + record(0x55AA10000000, 0x55AA10021000, b"[heap]", flags=b"rd wr ", Size=132, Rss=96, Pss=96)
    + record(0x7F0000000000, 0x7F0000002000, Size=8, Rss=8, Pss=8, flags=b"rd wr mr ")
    + record(0x7FFC00000000, 0x7FFC00021000, b"[stack]", Size=132, Rss=12, Pss=12, flags=b"gd ")
)  # fmt: skip
B = record(0x400000, 0x452000, b"/bin/other one", Size=328, Rss=100, Pss=50, flags=b"rd ")
ROWS, OTHERS = list(fastsmaps.parse(A)), list(fastsmaps.parse(B))


def lenient(text: bytes) -> Mappings:
    return fastsmaps.parse(text, lenient=True)


def lines(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True)


def each(text: bytes, change: Callable[[int, bytes], bytes]) -> bytes:
    return b"".join(change(i, line) for i, line in enumerate(lines(text), 1))


def numbered(style: bytes) -> Callable[[int, bytes], bytes]:
    return lambda i, line: style % i + line


def grep(name: bytes, text: bytes) -> bytes:
    """Return what grep -A prints for matching headers, with each file's name."""
    return each(text, lambda i, line: name + (b":" if line[:1].isdigit() else b"-") + line)


def fold(width: int, text: bytes, mark: bytes = b"") -> bytes:
    """Break lines as a terminal or a mail program does."""
    return each(
        text,
        lambda i, line: (
            line if len(line) <= width + 1 else line[:width].rstrip() + mark + b"\n" + line[width:]
        ),
    )


BAR = "│".encode()
HTML = A.replace(b"&", b"&amp;")
#: name: text, rows, lines left out.
WHOLE: dict[str, tuple[bytes, list[Mapping], int]] = {
    "as it is": (A, ROWS, 0),
    "a prompt and a command": (b"$ cat /proc/19/smaps\n" + A, ROWS, 1),
    "root's prompt, before and after": (
        b"[root@host ~]# cat /proc/19/smaps\n" + A + b"[root@host ~]# \n", ROWS, 2),
    "script(1)": (
        b"Script started on 2026-11-28\n\x1b[?2004huser@h:~$ cat smaps\r\n\x1b[?2004l\r"
        + A.replace(b"\n", b"\r\n") + b"\x1b[?2004huser@h:~$ exit\r\n", ROWS, 3),
    "head of several": (
        b"==> /proc/10/smaps <==\n" + A + b"\n==> /proc/11/smaps <==\n" + B, ROWS + OTHERS, 2),
    "tail of several": (
        b"==> a <==\n" + b"".join(lines(A)[-12:]) + b"\n==> b <==\n"
        + b"".join(lines(A)[2:]) + b"\n==> c <==\n" + B, ROWS[2:] + ROWS[1:] + OTHERS, 3 + 6),
    "indented": (each(A, lambda i, line: b" " + line), ROWS, 0),
    "Markdown's code": (b"Here:\n\n" + each(A, lambda i, line: b"    " + line), ROWS, 1),
    "a fence": (b"```\n" + A + b"```\n", ROWS, 2),
    "a fence with a language": (b"Output:\n~~~text\n" + A + b"~~~\nthanks", ROWS, 4),
    "quoted": (each(A, lambda i, line: b"> " + line), ROWS, 0),
    "quoted twice": (
        b"On Monday, A wrote:\n> On Sunday, B wrote:\n" + each(A, lambda i, line: b"> > " + line),
        ROWS, 2),
    "UTF-8 with its mark": (b"\xef\xbb\xbf" + A, ROWS, 0),
    "UTF-16, little": (A.decode().encode("utf-16"), ROWS, 0),
    "UTF-16, big": (b"\xfe\xff" + A.decode().encode("utf-16-be"), ROWS, 0),
    "UTF-16 of Windows": (A.replace(b"\n", b"\r\n").decode().encode("utf-16"), ROWS, 0),
    "UTF-16 without its mark": (A.decode().encode("utf-16-le"), ROWS, 0),
    "UTF-16 without its mark, big": (A.decode().encode("utf-16-be"), ROWS, 0),
    "UTF-32": (A.decode().encode("utf-32"), ROWS, 0),
    "UTF-16 with a prompt": (("PS C:\\> adb shell\n" + A.decode()).encode("utf-16"), ROWS, 1),
    "glibc's abort message": (
        b"*** Error in `x': free() ***\n======= Backtrace: =========\n/lib/libc.so.6[0x7f]\n"
        b"======= Memory map: ========\n" + A + b"Aborted (core dumped)\n", ROWS, 5),
    "line ends of Windows": (b"C:\\> type x\r\n" + A.replace(b"\n", b"\r\n"), ROWS, 1),
    "line ends of Windows, twice": (b"x y\r\r\n" + A.replace(b"\n", b"\r\r\n"), ROWS, 1),
    "line ends of old Macs": (A.replace(b"\n", b"\r"), ROWS, 0),
    "double spaced": (b"#\n" + A.replace(b"\n", b"\n\n"), ROWS, 1),
    "cat -n": (each(A, numbered(b"%6d\t")), ROWS, 0),
    "grep -n": (each(A, numbered(b"%d:")), ROWS, 0),
    "less -N": (each(A, numbered(b"%7d ")), ROWS, 0),
    "cat -e": (A.replace(b"\n", b"$\n"), ROWS, 0),
    "filled up": (each(A, lambda i, line: line[:-1].ljust(120) + b"\n"), ROWS, 0),
    "grep -H": (grep(b"/proc/10/smaps", A) + grep(b"/proc/11/smaps", B), ROWS + OTHERS, 0),
    "grep of several files": (
        grep(b"/proc/10/smaps", A) + b"--\n" + grep(b"/proc/11/smaps", B), ROWS + OTHERS, 1),
    "grep -Hn": (
        each(A, lambda i, line: b"a smaps:%d:" % i + line)
        + each(B, lambda i, line: b"b-%d-" % i + line), ROWS + OTHERS, 0),
    "grep --color": (
        A.replace(b"[heap]", b"\x1b[01;31m\x1b[K[heap]\x1b[m\x1b[K"), ROWS, 0),
    "colours": (each(A, lambda i, line: b"\x1b[32m" + line[:-1] + b"\x1b[0m\n"), ROWS, 0),
    "a table": (
        b"| smaps |\n|---|\n" + each(A, lambda i, line: b"| " + line[:-1].ljust(99) + b" |\n"),
        ROWS, 2),
    "HTML": (b"<pre>" + each(HTML, lambda i, line: b"&gt; " + line) + b"</pre>", ROWS, 1),
    "HTML with line breaks": (
        b"<html>\n" + each(A, lambda i, line: line[:-1] + b"<br>\n") + b"</html>\n", ROWS, 2),
    "a box": (each(A, lambda i, line: BAR + b" " + line[:-1].ljust(99) + BAR + b"\n"), ROWS, 0),
    "a NUL after each line": (A.replace(b"\n", b"\0\n"), ROWS, 0),
    "lines in JSON": (
        b'[\n' + each(A, lambda i, line: b' "' + line[:-1] + b'",\n') + b' ""\n]\n', ROWS, 3),
    "lines with their ends in JSON": (
        b'[\n' + each(A, lambda i, line: b' "' + line[:-1] + b'\\n",\n') + b']\n', ROWS, 2),
    "quoted lines": (each(A, lambda i, line: b"'" + line[:-1] + b"'\n"), ROWS, 0),
    "folded before the name": (fold(72, A), ROWS, 0),
    "folded in the name": (fold(76, A), ROWS, 0),
    "folded in the name by mail's encoding": (fold(76, A, b"="), ROWS, 0),
    "folded and quoted": (each(fold(72, A), lambda i, line: b"> " + line), ROWS, 0),
    "HTML with tags": (
        b"<html><body>\n" + each(A, lambda i, line: b"<p>" + line[:-1] + b"</p>\n"), ROWS, 1),
    "spaces, non-breaking ones among them": (A.replace(b"  ", b" \xc2\xa0"), ROWS, 0),
    "spaces that do not break": (b"x\n" + A.replace(b" kB", b"\xc2\xa0kB"), ROWS, 1),
    "a log": (
        each(A, lambda i, line: b"Nov 28 19:%02d:07 host app[12]: " % i + line), ROWS, 0),
    "logcat": (each(A, lambda i, line: b"I/DEBUG   (  123):     " + line), ROWS, 0),
    "dmesg": (each(A, lambda i, line: b"[ %4d.123456] " % i + line), ROWS, 0),
    "status after it": (
        A + b"Name:\tdaemon\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t10\nVmSwap:\t     0 kB\n",
        ROWS, 5),
    "meminfo after it": (A + b"MemTotal:       16316412 kB\nMemFree:          4 kB\n", ROWS, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_each_kind_of_paste_gives_its_rows(backend: ModuleType, name: str) -> None:
    text, rows, skipped = WHOLE[name]
    table = lenient(text)
    assert list(table) == rows
    assert table.skipped_lines == skipped, table.skipped
    assert sum(table.skipped.values()) == skipped


def test_a_text_inside_json_is_read(backend: ModuleType) -> None:
    # The first and last lines hold other text too.
    table = lenient(json.dumps({"smaps": A.decode()}).encode())
    assert list(table)[:2] == ROWS[1:3]
    assert [row.rss for row in table] == [row.rss for row in ROWS[1:]]
    assert table[-1].vm_flags == ("gd",)


@pytest.mark.parametrize("crlf", [b"\n", b"\r\n"])
def test_plain_saved_texts_are_read_as_strictly(backend: ModuleType, crlf: bytes) -> None:
    for path in sorted((DATA / "captures").glob("*/*/*maps*")):
        text = path.read_bytes()
        if path.suffix != ".tsv":
            table = lenient(text.replace(b"\n", crlf))
            assert list(table) == list(fastsmaps.parse(text))
            assert (table.skipped, table.skipped_lines) == ({}, 0)


@pytest.mark.parametrize("before", [b"$ cat\n", b"> ", b"  ", b"12:"])
def test_saved_texts_with_prefixes_lose_nothing(backend: ModuleType, before: bytes) -> None:
    for path in sorted((DATA / "captures").glob("*/*/smaps*")):
        text = path.read_bytes()
        if path.suffix == ".tsv" or not text:
            continue
        if before.endswith(b"\n"):
            changed = before + text
        elif before == b"12:":
            changed = each(text, numbered(b"%d:"))
        else:
            changed = each(text, lambda i, line: before + line)
        assert list(lenient(changed)) == list(fastsmaps.parse(text)), path


# ---- uncertain lines

HEAD = header(0x400000, 0x500000, b"/usr/bin/daemon", perms=b"r-xp", dev=b"08:01", inode=77)


def values(text: bytes) -> list[tuple[int, int | None, int | None]]:
    return [(row.start, row.rss, row.pss) for row in lenient(text)]


def test_a_cut_smaps_gives_no_wrong_value(backend: ModuleType) -> None:
    """No cut at either end changes a value, a flag or a name: it is kept or unknown."""
    known = {row.start: row for row in ROWS}
    for text in (A, A.replace(b"\n", b"\r\n"), b"$ cat\n" + A, each(A, numbered(b"%d:"))):
        for at in range(len(text) + 1):
            for part in (text[:at], text[at:]):
                try:
                    table = lenient(part)
                except ParseError:
                    continue
                for row in table:
                    whole = known[row.start]
                    assert row.end == whole.end
                    assert (row.path, row.perms, row.inode) == (
                        whole.path, whole.perms, whole.inode,
                    )  # fmt: skip
                    assert row.vm_flags in (None, whole.vm_flags)
                    for name in table.fields:
                        assert row[name] in (None, whole[name])


@pytest.mark.slow
def test_a_cut_maps_gives_no_wrong_row(backend: ModuleType) -> None:
    known = {row.start: row for row in fastsmaps.parse(MAPS)}
    for at in range(len(MAPS) + 1):
        try:
            table = lenient(MAPS[:at])
        except ParseError:
            continue
        # All rows were compared when their lines were whole.
        whole = MAPS[at - 1 : at] == b"\n"
        assert len(table) - MAPS.count(b"\n", 0, at) in (0, 1)
        for row in table if whole else table[-2:]:
            assert row == known[row.start]


@pytest.mark.parametrize(
    ("line", "rss"),
    [
        (b"Rss:                 512 KB\n", None),
        (b"Rss:                 512 k\n", None),
        (b"Rss:                 512\n", None),
        (b"Rss:                 5\x002 kB\n", None),
        (b"Rss:                 -12 kB\n", None),
        (b"Rss:  99999999999999999999 kB\n", None),
        (b"Rss 512 kB\n", None),
        (b"Rss:                 512 kB # much\n", None),
        (b"Rss:\t512 kB\n", 512 << 10),
    ],
)
def test_a_damaged_field_is_absent(backend: ModuleType, line: bytes, rss: int | None) -> None:
    table = lenient(HEAD + line + b"Pss:                 500 kB\n" + B)
    assert [(row.rss, row.pss) for row in table] == [(rss, 512_000), (102_400, 51_200)]
    assert table.skipped_lines == (rss is None)
    assert table.totals().rss == 102_400 + (rss or 0)


@pytest.mark.parametrize(
    "damaged",
    [
        b"004000x0-00500000 r-xp 00000000 08:01 77 /usr/bin/daemon\n",
        b"00400000-00500000 r-xp 00000000 08:01\n",
        b"00500000-00400000 r-xp 00000000 08:01 77 /backwards\n",
        b"00400000-00500000 r-xp 00000000 08:01 18446744073709551616 /x\n",
        b"00400000-00500000 r-xp 00000000 /system/lib64/x.so\n",
        b"00400000-00500000 r-xp 00000000 08:01 77 /x Size: 4 kB Rss: 4 kB Pss: 4 kB\n",
        b"$ ls\n",
        b"--\n",
        b"",
    ],
)
def test_fields_without_their_header_are_left_out(backend: ModuleType, damaged: bytes) -> None:
    fields = b"Size: 4 kB\nRss:                   7 kB\nPss: 7 kB\n"
    table = lenient(B + damaged + fields + A)
    assert list(table) == OTHERS + ROWS
    assert table.skipped_lines == 3 + bool(damaged)


def test_fields_of_another_process_are_left_out(backend: ModuleType) -> None:
    # grep selected lines, without the header of process 11.
    text = b"/proc/10/smaps:" + HEAD + b"/proc/11/smaps:Rss:    99 kB\n"
    assert values(text) == [(0x400000, None, None)]
    # Line numbers with a gap: a header may be missing in between.
    text = b"12:" + HEAD + b"13:Rss: 4 kB\n40:Pss: 99 kB\n"
    assert values(text) == [(0x400000, 4096, None)]
    text = b"host app[1]: " + HEAD + b"host app[2]: Rss: 99 kB\nhost app[1]: Pss: 4 kB\n"
    assert len(lenient(HEAD + text)) == 1
    # A diff has lines of two texts.
    text = b"@@ -1 +1 @@\n" + each(HEAD + b"Rss: 4 kB\n", lambda i, line: b"-" + line)
    with pytest.raises(ParseError):
        lenient(text)


def test_lines_that_only_look_folded_are_not_joined(backend: ModuleType) -> None:
    """Nothing is joined if Size is another range's, or the header is narrower than others."""
    a, b, c = (record(i << 12, (i + 1) << 12, b"/x%d" % i, Size=4, Rss=4) for i in (1, 2, 3))
    wide = record(16 << 12, 17 << 12, b"/" + b"x" * 40, Size=4, Rss=4)
    header, _, rest = a.partition(b"\n")
    for between, size in ((b"[...]", b"4"), (b"/lib/y", b"8")):
        text = header + b"\n" + between + b"\n" + rest.replace(b"4 kB", size + b" kB", 1) + b + wide
        table = lenient(text)
        assert [row.path for row in table] == ["/x1", "/x2", "/" + "x" * 40]
        assert table[0].rss is None
    nameless = record(1 << 12, 2 << 12, Size=8, Rss=4)
    first, _, rest = nameless.partition(b"\n")
    assert [row.path for row in lenient(first + b"\n/proc/2/smaps\n" + rest + c)] == ["/x3"]


def test_a_folded_name_without_size_is_left_out(backend: ModuleType) -> None:
    # By a mail program: the next line may be the mapping's name, or it may have none.
    start = HEAD.partition(b" /")[0].rstrip()
    text = start + b"\n/usr/bin/daemon\nRss: 4 kB\n" + B
    for folded in (text, each(text, lambda i, line: b"> " + line)):
        assert list(lenient(folded)) == OTHERS


def test_words_before_one_header_are_other_text(backend: ModuleType) -> None:
    with pytest.raises(ParseError, match="other text before"):
        lenient(b"The mapping " + HEAD)
    assert len(lenient(b"see " + HEAD + b"see " + B.partition(b"\n")[0] + b"\n")) == 2


def test_several_files_in_one_text_are_read(backend: ModuleType) -> None:
    rollup = record(0x55AA00000000, 0x7FFC00021000, b"[rollup]", perms=b"---p", Rss=120, Pss=118)
    text = b"==> smaps_rollup <==\n" + rollup + b"\n==> smaps <==\n" + A
    table = lenient(text)
    assert list(table) == ROWS
    assert (table.totals().source, table.totals().rss) == ("smaps", 120 << 10)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf\r\n"]
)
def test_an_empty_text_has_no_mappings(backend: ModuleType, text: bytes) -> None:
    for table in (lenient(text), fastsmaps.parse(text)):
        assert (len(table), table.skipped_lines, table.totals().size) == (0, 0, None)


@given(st.binary(max_size=300))
@examples(300)
def test_any_bytes_give_rows_or_a_parse_error(data: bytes) -> None:
    try:
        lenient(data)
    except ParseError as error:
        place, message = error.offset, str(error)
    else:
        return
    assert message.isprintable()
    assert place <= len(data) * 3


@given(st.data())
@examples(400)
def test_damage_makes_no_value(data: st.DataObject) -> None:
    """Overwriting bytes with others than digits removes values, and makes no new ones."""
    text = bytearray(A)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        to = at + data.draw(st.integers(1, 40))
        text[at:to] = data.draw(st.sampled_from([b"~", b"\n", b"\xff", b"kB", b"> ", b"\n$ ls\n"]))
    try:
        table = lenient(bytes(text))
    except ParseError:
        return
    # Remaining digits may begin a number, so only complete lines are compared.
    known = {line.strip() for line in lines(A)}
    for row in table:
        for name in ("rss", "pss", "swap"):
            value = row[name] if name in table.fields else None
            if value is not None:
                label = {"rss": b"Rss:", "pss": b"Pss:", "swap": b"Swap:"}[name]
                assert any(
                    line.split()[:2] == [label, b"%d" % (value // 1024)] for line in known
                ) or _is_part(text, label, value // 1024)


def _is_part(text: bytearray, label: bytes, number: int) -> bool:
    """Whether the text has such a line after the damage, which may join two lines."""
    return any(
        line.lstrip(b" >").startswith(label) and line.split()[-2:] == [b"%d" % number, b"kB"]
        for line in bytes(text).splitlines()
    )


@pytest.mark.parametrize(
    "text",
    [
        b"\r" * 200_000 + b"\n" + A,
        b" " * 200_000 + b"x\n",
        b"A" * 200_000 + b"\n" + A,
        b"<a" * 100_000 + b"\n" + A,
        b"<a>" * 100_000 + b"x\n" + A,
        b"\x1b[" * 100_000 + b"\n" + A,
        b"\x1b]" * 100_000 + b"\n" + A,
        b"X: 1 kB" * 50_000 + b"\n" + A,
        b"0-0 " * 100_000 + b"\n" + A,
        b"1" * 200_000 + b"-2 r-xp\n" + A,
        (b"a" * 300 + b" ") * 1000 + HEAD + A,
        b"\\n" * 100_000,
    ],
)
def test_long_lines_take_linear_time(text: bytes) -> None:
    # Quadratic in the line's length, each of these would take minutes.
    try:
        assert list(lenient(text)) == ROWS
    except ParseError:
        assert A not in text


# ---- files

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSORS)
def test_load_reads_pasted_and_compressed_texts(
    backend: ModuleType, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "saved.txt"
    for text, skipped in ((A, 0), (b"$ cat\n" + each(A, numbered(b"%d:")), 1)):
        for data in (text, COMPRESSORS[name](text)):
            path.write_bytes(data)
            for source in (path, io.BytesIO(data)):
                table = fastsmaps.load(source, lenient=True)
                assert (list(table), table.skipped_lines) == (ROWS, skipped)
    assert fastsmaps.load(path, lenient=True)[1:].skipped_lines == 1
    path.write_bytes(b"Error: nothing\n")
    with pytest.raises(ParseError, match=f"^{path}: line 1 .byte 0.: no mapping in this text"):
        fastsmaps.load(path, lenient=True)


# ---- causes


def archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("7/smaps")
        member.size = len(A)
        tar.addfile(member, io.BytesIO(A))
    return file.getvalue()


CAUSES: dict[str, tuple[bytes, str, int, int]] = {
    # text, in the message, line number, offset
    "prompt": (b"$ cat /proc/19/smaps\n" + A, "prompt or command", 1, 0),
    "another prompt": (b"root@box:/ # cat smaps\n" + A, "prompt or command", 1, 0),
    "command after it": (A + b"user@h:~$ cat x\n", "prompt or command", A.count(b"\n") + 1, len(A)),
    "head": (b"\n==> /proc/10/smaps <==\n" + A, "head and tail", 2, 1),
    "indent": (b" " + A, "indented", 1, 0),
    "quote": (b"> " + A, "quotation", 1, 0),
    "fence": (b"```\n" + A, "Markdown", 1, 0),
    "number": (b"   1\t" + A, "line number", 1, 0),
    "grep": (b"smaps:" + A, "grep", 1, 0),
    "colour": (b"\x1b[32m" + A, "terminal", 1, 0),
    "HTML": (b"&gt; " + A, "HTML", 1, 0),
    "page": (b"<html>" + A, "HTML or XML", 1, 0),
    "cut": (A[:-8], "cut off here", A.count(b"\n"), A.rfind(b"\n", 0, -1) + 1),
    "cut number": (HEAD + b"Rss:   4", "cut off here", 2, len(HEAD)),
    "glibc": (b"======= Memory map: ========\n" + A, "abort message", 1, 0),
    "no device": (
        b"59b5504000-59b5505000 rw-p 00001000 /system/lib64/x.so\n",
        "device and inode are missing", 1, 0),
    "no device, no name": (
        b"59b5504000-59b5505000 rw-p 00001000\n", "device and inode are missing", 1, 0),
    "unit": (HEAD + b"Rss:  512 KB\n", "the unit is KB", 2, len(HEAD)),
    "megabytes": (HEAD + b"Rss:  5 MiB\n", "the unit is MiB", 2, len(HEAD)),
    "error": (b"Error: [Errno 3] No such process: 'maps'\n", "an error message", 1, 0),
    "cat's error": (b"cat: /proc/1/smaps: Permission denied\n", "an error message", 1, 0),
    "beginning": (b"Rss:   4 kB\n" + A, "lacks its beginning", 1, 0),
    "gzip": (gzip.compress(A), "gzip", 1, 0),
    "tar": (archive(), "tar archive", 1, 0),
    "JSON": (b'[{"start": 1}]\n', "JSON", 1, 0),
    "binary": (b"\x7fELF\x02\x01\0\0", "a program", 1, 0),
    "zeros": (bytes(100), "binary", 1, 0),
    "UTF-16": (A.decode().encode("utf-16-le"), "UTF-16 without", 1, 0),
    "half of UTF-16": (A.decode().encode("utf-16")[:-1], "damaged or cut off", 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUSES)
def test_the_error_names_the_likely_cause(backend: ModuleType, name: str) -> None:
    text, wanted, number, offset = CAUSES[name]
    with pytest.raises(ParseError) as caught:
        fastsmaps.parse(text)
    error = caught.value
    assert wanted in error.cause
    assert error.cause in str(error)
    assert (error.line_number, error.offset) == (number, offset) or name in ("gzip", "tar")
    assert str(error).isprintable()
    # Only for a text that lenient=True can read.
    try:
        read = len(lenient(text)) > 0
    except ParseError:
        read = False
    if "try lenient=True" not in str(error):
        assert not read
    if read:
        assert "try lenient=True" in str(error)


def test_texts_with_a_byte_order_mark_are_decoded(backend: ModuleType) -> None:
    for code in ("utf-8-sig", "utf-16", "utf-32"):
        assert list(fastsmaps.parse(A.decode().encode(code))) == ROWS
        with pytest.raises(ParseError) as caught:
            fastsmaps.parse((B.decode() + "> x\n").encode(code))
        assert (caught.value.offset, caught.value.cause) == (
            len(B), "a quotation, as in mail; try lenient=True",
        )  # fmt: skip


# ---- the command


def note(*arguments: str, data: bytes, status: int = 0) -> str:
    import subprocess

    done = subprocess.run(
        [*COMMAND, *arguments],
        input=data, capture_output=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == status, done
    return done.stderr.decode()


def test_commands_report_the_lines_left_out(tmp_path: Path) -> None:
    path = tmp_path / "saved.txt"
    path.write_bytes(b"$ cat /proc/1/smaps\n" + A[:-3])
    for command in ("totals", "maps"):
        done = run(command, str(path), "--json")
        assert done.stderr == (f"fastsmaps: {path}: 2 lines skipped: 1 other text, 1 cut off\n")
        assert json.loads(done.stdout)
    assert note("totals", "-", data=b"$ x\n" + A) == (
        "fastsmaps: standard input: 1 line skipped: 1 other text\n"
    )
    assert note("totals", "-", data=A) == ""
    path.write_bytes(A)
    assert run("diff", str(path), str(path)).stderr == ""


@pytest.mark.parametrize("text", [b"", b"\n \r\n"])
def test_commands_fail_on_an_empty_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "empty"
    path.write_bytes(text)
    for arguments in (("totals",), ("maps",), ("maps", "--by", "kind"), ("diff", str(path))):
        done = run(*arguments, str(path), status=1)
        assert done.stderr == f"fastsmaps: {path} is empty: nothing was read\n"
        assert done.stdout == ""
    assert "standard input is empty" in note("maps", "-", data=text, status=1)


def test_commands_fail_on_a_file_that_is_not_smaps(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_bytes(b"cat: /proc/1/smaps: Permission denied\n")
    for command in ("totals", "maps"):
        done = run(command, str(path), status=1)
        assert "no mapping in this text" in done.stderr
        assert "an error message was saved" in done.stderr
    path.write_bytes(A)
    other = tmp_path / "empty"
    other.write_bytes(b"")
    done = run("totals", str(other), str(path), "--csv", status=1)
    assert done.stdout.count("\n") == 2
