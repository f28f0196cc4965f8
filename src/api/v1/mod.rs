//! `/api/v1`: one file per endpoint family.
