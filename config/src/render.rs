//! Faults as plain text: the line, the underline, the cure; nothing from the file reaches a
//! terminal raw.

use std::fmt::Write;
use std::ops::Range;

use crate::diagnostics::{Diagnostics, Fault, Severity};

/// The most columns of a source line that are shown.
const COLUMNS_MAX: usize = 96;

/// How many characters stand before the underlined part of a line that is too long to show.
const LEAD: usize = 24;

/// The columns that a tab takes.
const TAB: &str = "    ";

/// The text with every control and direction-changing character written as an escape.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push_printable(&mut shown, character);
    }
    shown
}

/// The text with every such character replaced by as many `?` as it has bytes, so that places
/// still fit. Line ends and tabs stay.
pub(crate) fn same_length(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_deceptive(character) && !matches!(character, '\n' | '\r' | '\t') {
            shown.extend(std::iter::repeat_n('?', character.len_utf8()));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Where each line of a text starts.
pub(crate) fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.match_indices('\n').map(|(end, _)| end + 1);
    std::iter::once(0).chain(ends).collect()
}

/// All faults one below the other, then how many there are.
pub(crate) fn render(diagnostics: &Diagnostics, color: bool) -> String {
    let mut page = Page {
        out: String::new(),
        color,
    };
    for fault in diagnostics.faults() {
        page.fault(diagnostics, fault);
    }
    page.total(diagnostics);
    page.out
}

struct Page {
    out: String,
    color: bool,
}

impl Page {
    fn fault(&mut self, diagnostics: &Diagnostics, fault: &Fault) {
        let hue = hue(fault.severity);
        self.paint(hue, &format!("{}[{}]", fault.severity, fault.code));
        self.line(&format!(": {}", fault.reason));
        let marked: Vec<_> = fault
            .place
            .iter()
            .map(|place| (place, fault.label.as_str(), '^'))
            .chain(
                fault
                    .also
                    .iter()
                    .map(|(place, label)| (place, label.as_str(), '-')),
            )
            .collect();
        let lines = marked
            .iter()
            .map(|(place, ..)| diagnostics.line_and_column(place.start).0);
        let gutter = lines.max().unwrap_or(1).to_string().len() + 1;
        for (place, label, mark) in marked {
            self.excerpt(diagnostics, place, label, (mark, hue, gutter));
        }
        if let Some(cure) = &fault.cure {
            self.put(&" ".repeat(gutter));
            self.paint("36", "= cure:");
            self.line(&format!(" {cure}"));
        }
        self.line("");
    }

    /// One line of the file with a part underlined.
    fn excerpt(
        &mut self,
        diagnostics: &Diagnostics,
        place: &Range<usize>,
        label: &str,
        (mark, hue, gutter): (char, &str, usize),
    ) {
        let text = diagnostics.text.as_str();
        let (line, column) = diagnostics.line_and_column(place.start);
        let number = format!("{line:>width$}", width = gutter - 1);
        let blank = " ".repeat(gutter);
        let name = printable(&diagnostics.name);
        self.line(&format!(
            "{}--> {name}:{line}:{column}",
            " ".repeat(gutter - 1)
        ));
        let shown = Shown::new(text, place);
        self.line(&format!("{blank}|"));
        self.line(format!("{number} | {}", shown.text).trim_end());
        self.put(&format!("{blank}| {}", " ".repeat(shown.before)));
        let underline = mark.to_string().repeat(shown.width);
        self.paint(hue, format!("{underline} {label}").trim_end());
        self.line("");
    }

    fn total(&mut self, diagnostics: &Diagnostics) {
        let count = |severity| {
            let of = |fault: &&Fault| fault.severity == severity;
            diagnostics.faults().iter().filter(of).count()
        };
        let kinds = [
            (count(Severity::Error), "error", "errors"),
            (count(Severity::Warning), "warning", "warnings"),
            (
                count(Severity::Advice),
                "piece of advice",
                "pieces of advice",
            ),
        ];
        let said: Vec<_> = kinds
            .iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }))
            .collect();
        if said.is_empty() {
            return;
        }
        let name = printable(&diagnostics.name);
        self.put(&format!("{name}: {}", said.join(", ")));
        if diagnostics.omitted_count() > 0 {
            self.put(&format!(
                ", and {} more not shown",
                diagnostics.omitted_count()
            ));
        }
        self.line("");
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn line(&mut self, text: &str) {
        self.put(text);
        self.out.push('\n');
    }

    fn paint(&mut self, hue: &str, text: &str) {
        if self.color {
            self.put(&format!("\u{1b}[{hue}m{text}\u{1b}[0m"));
        } else {
            self.put(text);
        }
    }
}

fn hue(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "1;31",
        Severity::Warning => "1;33",
        Severity::Advice => "1;34",
    }
}

/// A line of the file as it can be shown, and where the underline goes.
struct Shown {
    text: String,
    before: usize,
    width: usize,
}

impl Shown {
    fn new(text: &str, place: &Range<usize>) -> Self {
        let from = floor(text, place.start);
        let start = text[..from].rfind('\n').map_or(0, |end| end + 1);
        let end = text[from..].find('\n').map_or(text.len(), |end| from + end);
        let to = floor(text, place.end).clamp(from, end);
        let head = if text[start..from].chars().count() > COLUMNS_MAX - LEAD {
            // The part that matters comes first: the line may be a megabyte long.
            let near: Vec<char> = text[start..from].chars().rev().take(LEAD).collect();
            let near: String = near.into_iter().rev().collect();
            format!("…{}", escaped(&near))
        } else {
            escaped(&text[start..from])
        };
        let before = head.chars().count();
        let mut shown = head;
        for character in text[from..to].chars() {
            push_escaped(&mut shown, character);
            if shown.chars().count() > COLUMNS_MAX {
                break;
            }
        }
        let width = (shown.chars().count() - before).max(1);
        let rest: String = text[to..end].chars().take(COLUMNS_MAX).collect();
        shown.push_str(&escaped(rest.trim_end()));
        if shown.chars().count() > COLUMNS_MAX {
            shown = shown.chars().take(COLUMNS_MAX).chain(['…']).collect();
        }
        Self {
            text: shown,
            before,
            width: width.min((COLUMNS_MAX + 1).saturating_sub(before).max(1)),
        }
    }
}

fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        push_escaped(&mut shown, character);
    }
    shown
}

fn push_escaped(shown: &mut String, character: char) {
    match character {
        '\t' => shown.push_str(TAB),
        '\r' => {}
        _ => push_printable(shown, character),
    }
}

fn push_printable(shown: &mut String, character: char) {
    if is_deceptive(character) {
        write!(shown, "{}", character.escape_unicode()).expect("writing to a string cannot fail");
    } else {
        shown.push(character);
    }
}

/// Whether showing the character would move the cursor, hide text or turn its direction.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The nearest character boundary at or before a byte.
pub(crate) fn floor(text: &str, byte: usize) -> usize {
    text.floor_char_boundary(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::{Code, Faults};

    fn rendered(text: &str, place: Range<usize>) -> String {
        let mut faults = Faults::default();
        faults.add(
            Fault::new(Code::F05, place, "bad")
                .label("here")
                .cure("mend"),
        );
        faults.diagnostics("a.toml", text, true).render(false)
    }

    #[test]
    fn a_fault_shows_its_line_underlined_with_reason_and_cure() {
        assert_eq!(
            rendered("x = 1\ny = 22\n", 10..12),
            "error[F05]: bad\n --> a.toml:2:5\n  |\n2 | y = 22\n  |     ^^ here\n  \
             = cure: mend\n\na.toml: 1 error\n"
        );
    }

    #[test]
    fn control_characters_of_the_file_are_shown_and_never_sent() {
        let shown = rendered("x = \u{1b}[31m\u{202e}\n", 4..5);
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
            "{shown}"
        );
        assert!(
            shown.contains("1 | x = \\u{1b}[31m\\u{202e}\n  |     ^^^^^^ here"),
            "{shown}"
        );
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_around_the_fault() {
        let text = format!("x = \"{}\" ! {}", "a".repeat(1 << 20), "b".repeat(1 << 20));
        let at = text.find('!').unwrap();
        let shown = rendered(&text, at..at + 1);
        assert!(
            shown.lines().all(|line| line.chars().count() < 110),
            "{shown}"
        );
        assert!(shown.contains("…") && shown.contains('!'), "{shown}");
    }

    #[test]
    fn a_place_inside_a_character_or_behind_the_end_does_no_harm() {
        for place in [1..2, 2..3, 90..99] {
            assert!(rendered("äöü", place).contains("a.toml:1:"));
        }
    }

    #[test]
    fn what_is_given_to_other_renderers_keeps_its_places() {
        assert_eq!(same_length("a\u{1b}\u{202e}b\n"), "a????b\n");
    }
}
