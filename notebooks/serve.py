"""Recommendations over HTTP from the newest model of a store, without Spark; a new version is taken up while it runs.

    pip install mfspark[serve]
    MFSPARK_STORE=/data/store uvicorn --workers 2 --app-dir notebooks serve:app
    curl 'localhost:8000/recommend/42?k=5&deny=318'
    curl 'localhost:8000/recommend/77?popular=true'
    curl -X POST localhost:8000/visitors -H 'content-type: application/json' -d '{"ratings": {"318": 5, "296": 4}}'
"""

import os

# A worker process for each core, and one thread in each: the threads of several workers only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel

from mfspark import DataError, ParameterError, Serving
from mfspark.kernels.csr import Side

serving = Serving(os.environ["MFSPARK_STORE"], every=float(os.environ.get("MFSPARK_REFRESH_SECONDS", 60)))
app = FastAPI(title="mfspark")


class Visitor(BaseModel):
    """A user whom the model has not met: ratings by item, and how many items are wanted."""

    ratings: dict[str, float]
    k: int = 10


# These answer in a millisecond, so that a thread for each would only cost. With millions of items leave "async" out.
@app.get("/recommend/{user}")
async def recommend(user: str, k: int = 10, deny: list[str] = Query([]), popular: bool = False) -> dict:
    model = serving.model
    who, denied = model.typed(user, Side.USER), [model.typed(item) for item in deny]
    own = lambda: model.recommend(who, k, deny=denied)  # noqa: E731
    return answer(model, lambda: own() if model.knows(who) or not popular else model.popular(k, deny=denied))


@app.post("/visitors")
async def visitors(visitor: Visitor) -> dict:
    model = serving.model
    ratings = {model.typed(item): rating for item, rating in visitor.ratings.items()}
    return answer(model, lambda: model.recommend_for(ratings, visitor.k))


def answer(model, ask) -> dict:
    try:
        return {"version": model.version, "items": [one._asdict() for one in ask()]}
    except (DataError, ParameterError) as error:
        raise HTTPException(404 if "unknown" in str(error) else 422, str(error)) from error
