"""Writes one half of a table in a transaction, waits for the file "go", writes the other half, commits, looks at all of it."""
import os
import sqlite3
import time

ROWS = 2000
db = sqlite3.connect("database", isolation_level=None)
assert db.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
db.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, square INTEGER, filler TEXT)")
db.execute("INSERT INTO numbers VALUES (0, 0, 'committed before')")
reader = sqlite3.connect("database", isolation_level=None)
db.execute("BEGIN IMMEDIATE")
insert = "INSERT INTO numbers VALUES (?, ?, ?)"
db.executemany(insert, ((n, n * n, "x" * (n % 300)) for n in range(1, ROWS)))
assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (1,)
print("half", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (1,)
db.executemany(insert, ((n, n * n, "x" * (n % 300)) for n in range(ROWS, 2 * ROWS)))
db.execute("COMMIT")
print(reader.execute("SELECT count(*), sum(square) FROM numbers").fetchone(), flush=True)
print(reader.execute("PRAGMA integrity_check").fetchone(), flush=True)
