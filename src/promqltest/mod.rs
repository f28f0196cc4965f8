//! `.test` scripts: the public language of PromQL semantics, run against an engine.
