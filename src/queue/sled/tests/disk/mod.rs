//! What is on disk: its format, its damage and faults, verifying and giving room back.

mod chunked;
mod compacting;
mod damage;
mod faults;
mod formats;
mod golden;
mod verifying;

use super::*;
