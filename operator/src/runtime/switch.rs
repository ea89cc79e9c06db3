//! The form of flags that are on, off or given without a value, which means on.
//!
//! Shared by the flags of `runtime`, so that the chart can always pass a value. Reads nothing.

use clap::{Arg, ArgAction};

/// Returns a function that gives the flags of these names this form, and leaves others as they are: `--flag`, `--flag=true`
/// or `--flag=false`, off by default.
pub fn named(names: &'static [&'static str]) -> impl Fn(Arg) -> Arg {
    move |flag| {
        if !names.contains(&flag.get_id().as_str()) {
            return flag;
        }
        flag.action(ArgAction::Set).num_args(0..=1).default_value("false").default_missing_value("true")
    }
}
