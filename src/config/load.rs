//! Reading and layering the configuration; every problem at once.
