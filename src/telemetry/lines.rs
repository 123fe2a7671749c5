//! How much of the log strangers can fill: few lines, and short ones.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Bytes of a text that a client wrote, in a line.
const LONGEST: usize = 256;

/// The beginning of a text that a client wrote.
pub fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// Lets a number of lines through each second, and counts those that are left out.
#[derive(Debug)]
pub struct Lines {
    most: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    second: Option<Instant>,
    written: u32,
    untold: u64,
}

impl Lines {
    /// At most so many lines in a second.
    pub const fn new(most: u32) -> Self {
        Self {
            most,
            state: Mutex::new(State {
                second: None,
                written: 0,
                untold: 0,
            }),
        }
    }

    /// How many lines were left out since the last one; `None` when this one is left out too.
    pub fn next(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let is_over = |begin| now >= begin + Duration::from_secs(1);
        if state.second.is_none_or(is_over) {
            state.second = Some(now);
            state.written = 0;
        }
        if state.written == self.most {
            state.untold += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(short("größe"), "größe");
        let long = "ß".repeat(1000);
        assert_eq!(short(&long), "ß".repeat(LONGEST / 2));
        let odd = format!("x{long}");
        assert_eq!(short(&odd).len(), LONGEST - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_counted_and_told_with_the_next_line() {
        let lines = Lines::new(3);
        let written = |times: usize| (0..times).filter_map(|_| lines.next()).collect::<Vec<_>>();
        assert_eq!(written(1000), [0, 0, 0]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(written(2), [997, 0]);
    }
}
