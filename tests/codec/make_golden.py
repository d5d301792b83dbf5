"""Makes golden/ and the worked example in BITSTREAM.md: run `make golden`. Nothing else does.

`golden/index.json` and `golden/bad/index.json` say how to decode each bitstream, and what must come
of it. All of it depends on the frozen tables.
"""

import json
import shutil

import golden_cases
from golden_bad import make_bad
from golden_cases import make_cases
from golden_edges import make_edges
from golden_one_sided import make_bad_one_sided, make_one_sided
from golden_talks import make_talks
from worked_example import SPECIFICATION, explain, put


def main() -> None:
    folder = golden_cases.GOLDEN
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bad").mkdir(parents=True)
    cases = [*make_cases(), *make_edges(), *make_one_sided()]
    cases += make_talks({case.name: case for case in cases})
    for case in cases:
        case.write()
    index = {case.name: case.facts() for case in cases}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    bad = [*make_bad(cases), *make_bad_one_sided({case.name: case for case in cases})]
    for each in bad:
        (folder / "bad" / f"{each.name}.fw").write_bytes(each.data)
    index = {each.name: each.facts() for each in bad}
    (folder / "bad" / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    SPECIFICATION.write_text(put(explain((folder / "worked.fw").read_bytes())), encoding="utf-8")


if __name__ == "__main__":
    main()
