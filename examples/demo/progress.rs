//! A bar on standard error while the load runs. Nothing, where that is no terminal.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::load::Tally;
use crate::script::{Script, Third};
use crate::servers::{FAILING, SLOW};

/// Draws until it is dropped.
pub async fn bar(script: Script, plain: &Tally, mesh: &Tally) -> Infallible {
    let bar = Bar(ProgressBar::new(millis(script.length)));
    if let Ok(style) = ProgressStyle::with_template("{bar:24.green/dim} {msg}") {
        bar.0.set_style(style.progress_chars("━━─"));
    }
    loop {
        let since = Instant::now().saturating_duration_since(script.start);
        let phase = match script.third(since) {
            Third::First => "all is well".to_owned(),
            Third::Bad => format!("{FAILING} fails, {SLOW} is slow"),
            Third::Last => "all is well again".to_owned(),
        };
        let lost = |tally: &Tally| tally.failed.load(Ordering::Relaxed);
        bar.0.set_position(millis(since.min(script.length)));
        bar.0.set_message(format!(
            "{:2} s {phase:<18} lost: {} plain, {} mesh",
            since.as_secs(),
            lost(plain),
            lost(mesh),
        ));
        sleep(Duration::from_millis(100)).await;
    }
}

/// Leaves no trace on the terminal.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
