//! The words by which devices, or somebody for them, say that they are there.

/// What an availability message says; `None` if it says neither.
#[must_use]
pub fn is_available(word: &str) -> Option<bool> {
    const THERE: [&str; 6] = ["online", "on", "true", "ready", "available", "connected"];
    const GONE: [&str; 7] = [
        "offline",
        "off",
        "false",
        "lost",
        "unavailable",
        "disconnected",
        "sleeping",
    ];
    let is_among = |words: &[&str]| {
        words
            .iter()
            .any(|known| word.trim().eq_ignore_ascii_case(known))
    };
    if is_among(&THERE) {
        Some(true)
    } else {
        is_among(&GONE).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_several_conventions_are_understood() {
        let words = ["online", "Offline", " true\n", "lost", "init"];
        let said = words.map(is_available);
        assert_eq!(
            said,
            [Some(true), Some(false), Some(true), Some(false), None]
        );
    }
}
