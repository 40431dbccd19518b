"""Why a row is rejected: one named constant per reason, the same words in the quarantine table and in the tests."""

UNPARSABLE = "unparsable line"
NO_MOVIE = "no movie id above this line"
NULL_USER = "null user id"
BLANK_USER = "blank user id"
NULL_ITEM = "null item id"
BLANK_ITEM = "blank item id"
NULL_RATING = "null rating"
NAN_RATING = "NaN rating"
INFINITE_RATING = "infinite rating"
OUT_OF_RANGE = "rating out of range"
BAD_WEIGHT = "weight is null, negative or not finite"
DUPLICATE_OLDER = "duplicate, an older or equal row of the pair"
DUPLICATE_MERGED = "duplicate merged into one row"

REASONS = (
    UNPARSABLE,
    NO_MOVIE,
    NULL_USER,
    BLANK_USER,
    NULL_ITEM,
    BLANK_ITEM,
    NULL_RATING,
    NAN_RATING,
    INFINITE_RATING,
    OUT_OF_RANGE,
    BAD_WEIGHT,
    DUPLICATE_OLDER,
    DUPLICATE_MERGED,
)
