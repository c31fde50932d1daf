import csv
import sqlite3
from contextlib import closing
from typing import Literal

from pydantic import BaseModel

from batchkit import Contract, Prompt, Spec, SQLiteTarget, Tier, Workflow
from batchkit.testing import simulated_client

with open("items.csv", "w", newline="") as file, closing(sqlite3.connect("shop.db")) as shop:
    csv.writer(file).writerows([["sku", "title"], ["001", "USB cable 2 m"], ["002", "Radio"], ["003", "n/a"]])
    shop.executescript("CREATE TABLE IF NOT EXISTS item (sku TEXT UNIQUE, category)")
    shop.executescript("INSERT OR IGNORE INTO item VALUES ('001', '')")


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None


contract = Contract(Answer, sparse=lambda answer: answer.category is None)
prompt = Prompt("Title: {title}", system="Sort the item. Use null when the title does not say.")
spec = Spec(contract, prompt, key="sku", tiers=[Tier("claude-haiku-4-5", max_tokens=100)])
flow = Workflow(spec, store="batch.db", client=simulated_client(seed=1))  # without client: the API
run = flow.run("spring", "items.csv", unlocked=True)  # unlocked: no pilot was read; the receipt says so
print(run.reconcile().equation)
print(run.promote(SQLiteTarget("shop.db", table="item", key="sku")))
