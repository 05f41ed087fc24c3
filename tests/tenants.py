"""Many tenants in one small index, and filters that try to see what is another's."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ragtune.recipe.load import check_recipe
from ragtune.recipe.schema import Recipe
from ragtune.retrieval.index import Index
from ragtune.stages.index import run_index

CLIENTS = ("Acme", "O'Neil & Sons", 'The "Quote" Co', "x) or (1 = 1", "null", "true", "Größe ﬁn", "`tick`", "a\\b", "and")
"""Names of tenants that a filter's grammar might trip over; others are numbered."""
COLUMNS = ("client", "company", "fiscal_year", "form", "secret", "document", "page", "year", "Client", "tenant", "no such")
KNOWN = ("client", "company", "fiscal_year", "form", "document", "page", "year")
"""Columns that every tenant's documents have."""


def client_of(number: int) -> str:
    """Return a tenant's name."""
    return CLIENTS[number] if number < len(CLIENTS) else f"Client {number}"


def quoted(text: str) -> str:
    """Return a text as a filter's string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def tenant_of(number: int) -> str:
    """Return the filter of a tenant's key: by one column, by a list, or by an expression."""
    name = quoted(client_of(number))
    return (f"client = {name}", f"client in ({name}, {name})", f"not client != {name}",
            f"client = {name} or client = {name} and fiscal_year > 0", json.dumps({"client": client_of(number)}),
            )[number % 5]


def make_shared_index(home: Path, tenants: int, documents: int = 2) -> Recipe:
    """Write documents of many tenants, each with a word that no other has, and build one index of them."""
    (home / "documents").mkdir(parents=True)
    rows = []
    for number in range(tenants):
        for place in range(documents):
            name = f"T{number:03d}_{2020 + place}_10K"
            pages = [f"# Common report {place}\nNet sales were {1000 + number} in {2020 + place}, as word{number} says.",
                     f"Risk factors of word{number}: supply, demand and currency. The Zeta Project (ZP{number}) goes on."]
            (home / "documents" / f"{name}.txt").write_text("\f".join(pages), encoding="utf-8")
            rows.append({"document": name, "client": client_of(number), "company": f"Common{number} Corp",
                         "fiscal_year": 2020 + place, "form": "10-K", **({"secret": number} if number % 2 else {})})
    (home / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = check_recipe({
        "name": "shared", "work": str(home / "work"), "index": {"embedder": "hash"},
        "documents": {"folder": str(home / "documents"), "metadata": str(home / "documents.jsonl"), "workers": 1},
        "generator": {"model": "extractive"}}, "test")
    run_index(recipe)
    return recipe


ATTACKS = (
    "client = 'Client 11') or (1 = 1", "x = 1) or (client = 'Client 11'", "client != 'x') or (client != 'x'",
    ")) or ((page > 0", "page > 0) or (page > 0",
    "page > 0 or client = 'Client 11'", "not client = 'nobody'", "not (client = 'Acme' and page > 9)", "page >= 1",
    "client != null", "client = null or client != null", "document != ''", "document > ''", "document < 'zzzz'",
    "client in ('Client 11', 'Client 12', 'Acme')", "client not in ('Acme')", "`client` = 'Client 11'",
    "`client` != 'Acme' -- '", "client = 'Acme' or 1 = 1", "1 = 1", "true", "not not page > 0", "'' = ''",
    "client = '' or ''=''",
    "client = 'a' /* */ or page > 0", "client = 'x\\' or page > 0 or client = \\''",
    "client = 'x' or page > 0 or client = 'y",
    '{"client": "Client 11"}', '{"$or": [{"client": "Client 11"}, {"page": {"$gte": 0}}]}', '{"$nor": [{"client": "x"}]}',
    '{"client": {"$ne": "x"}}', '{"client": {"$not": {"$eq": "x"}}}', '{"$not": {"client": "x"}}',
    '{"client": {"$exists": true}}',
    '{"client": "Acme", "client": {"$ne": "Acme"}}', '{"tenant": null}', '{"tenant_filter": "page > 0"}', "secret > 0",
    "secret = null", "secret != 1", "secret < 1000000", "fiscal_year > 0", "year > 0", "company = 'Common11 Corp'",
    "not secret = 11 or not secret = 12", "client = 'Client 11' or company = 'Common11 Corp' or document = 'T011_2020_10K'",
    "CLIENT = 'x'", "client = 'CLIENT 11'", "page = 1 or page = 2", "(page > 0)", "((((page > 0))))",
    "page > 0\x00", "page > 0\n) or (page > 0", "page > 0 ; drop table chunks", "client like '%'", "client = $1",
    "client = ?",
    # operators of MongoDB that run code, look elsewhere or are nested against the grain
    '{"$where": "1 == 1"}', '{"$where": "this.client != \'\'"}', '{"$expr": {"$ne": ["$client", "x"]}}',
    '{"client": {"$regex": ".*"}}', '{"client": {"$not": {"$not": {"$not": {"$eq": "x"}}}}}',
    '{"$not": {"$not": {"$or": [{"client": "x"}, {"page": {"$gte": 0}}]}}}', '{"$nor": [{"$nor": [{"page": {"$gt": 0}}]}]}',
    '{"$or": []}', '{"$or": [{}]}', '{}', '{"$and": []}', '[]', '[{"page": 1}]', '{"": {"$ne": 1}}', '{"client": {}}',
    '{"client": []}', '{"client": {"$in": []}}', '{"client": {"$nin": []}}', '{"client": {"$nin": ["x", null]}}',
    '{"client": null, "$or": [{"client": {"$ne": null}}]}', '{"client": {"$gte": ""}}', '{"client": {"$gt": null}}',
    '{"__proto__": {"client": "Client 11"}}', '{"$comment": "x", "page": {"$gte": 0}}', '{"document": {"$gte": ""}}',
    '{"$or": [{"client": "Client 11"}, {"client": "Client 12"}, {"company": "Common11 Corp"}]}', '{"client": true}',
    # letters and signs that look like, or fold to, others
    "ｃｌｉｅｎｔ = 'Client 11'", "clіent = 'Client 11'", "client\u200b != 'x'", "client ＝ 'Client 11'",
    "client = ‘Client 11’", "client = 'x' ⋁ page > 0", "client = 'x' ｏｒ page > 0", "page > 0\u2028or page > 0",
    "client = 'Client\u00a011'", "client = 'ＣＬＩＥＮＴ 11'", "client = 'Große fin' or page > 0", "client != '\ufeff'",
    "\u202e0 > egap", "page >\u00a00", "client = 'x\u0000' or page > 0", "\x00", "client\x00 = 'x'", "page > 0 or\x00",
    "client = 'Client 11\x00'", "document = 'T011_2020_10K\x00'", '{"client\\u0000": {"$ne": "x"}}', "page > ٠",
    # deep, long and endless ones
    "(" * 40 + "page > 0" + ")" * 40, "(" * 5000 + "page > 0" + ")" * 5000, "not " * 30 + "page > 0",
    "not " * 31 + "client = 'x'", "not " * 20_000 + "page > 0", " or ".join(["page > 0"] * 3000),
    "client in (" + ", ".join(f"'Client {number}'" for number in range(2000)) + ")",
    "client = '" + "x" * 60_000 + "' or page > 0", "client = 'x' or page > " + "9" * 400, "page > -1e308", "page < 1e400",
    '{"$or": [' * 60 + '{"page": 1}' + "]}" * 60, "(" * 60_000, "[" * 60_000, '{"a":' * 60_000, "'" * 999,
    # what a tenant's filter is made of, said again, against it or as if it were it
    "client = 'Client 11' and client = 'Client 12'", "client != 'Client 11' or client = 'Client 11'", "tenant = 'Client 11'",
    "tenant != 'x'", "tenant_filter = null", "owner = 'x' or not owner = 'x'", "key != 'x' or page > 0", "`tenant` = null",
    "document in ('T011_2020_10K', 'T012_2021_10K')", "not document = 'x'", "document >= 'T000' and document <= 'T099_9'",
    "not (client = 'Client 11' and not client = 'Client 11')", "page in (1, 2) or document = 'T011_2021_10K'",
    "{'client': 'Client 11'}", "client = \"Client 11\" or \"\" = \"\"", "client = 'Client 11'--", "client = 'x';--",
    "client = 'x' union select text from chunks", "${client}", "{{client}}", "%s", "client = %s", "client %3D 'x'",
    "client&#61;'x'", "../../T011_2020_10K", "client = 'x' AND 1=2 OR page > 0", "CLIENT != 'x' OR PAGE > 0",
    "not page = null", "page != null or client != null", "not (page = null and client = null)",
)


def random_filter(random: random.Random, level: int = 0) -> str:
    """Return a filter by the grammar, or a text broken in the way an attack would be."""
    kind = random.random()
    if level == 0 and kind < 0.25:
        text = random.choice(ATTACKS)
        between = random.choice((") or (", " or ", " and not ", "; "))
        return text if kind < 0.15 else f"{random_filter(random, 1)}{between}{text}"
    if level < 4 and kind < 0.55:
        parts = [random_filter(random, level + 1) for _ in range(random.randint(2, 3))]
        return f"({random.choice((' and ', ' or ', ' or ')).join(parts)})"
    if level < 4 and kind < 0.65:
        return f"not {random_filter(random, level + 1)}"
    column = random.choice(COLUMNS if random.random() < 0.06 else KNOWN)  # one that there is not makes the whole refused
    column = f"`{column}`" if " " in column or random.random() < 0.1 else column
    other, is_number = random.randint(0, 99), column in ("fiscal_year", "page", "year")
    values = (str(random.randint(-3, 4)), str(random.randint(2018, 2023)), "null") if is_number else (
        quoted(client_of(other)), f"'Common{other} Corp'", f"'T{other:03d}_2020_10K'", "''", "null")
    value = random.choice(values if random.random() < 0.97 else ("true", "7", "'7'"))
    signs = ("=", "!=", "in", "not in", *(("<", "<=", ">", ">=") if value != "null" else ()))
    sign = random.choice(signs)
    return f"{column} {sign} ({value}, {value})" if "in" in sign else f"{column} {sign} {value}"


def owned_names(index: Index, number: int) -> set[str]:
    """Return the documents of a tenant, told by the names that were written and no filter."""
    return {document.name for document in index.whole.documents() if document.name.startswith(f"T{number:03d}_")}  # type: ignore[attr-defined]
