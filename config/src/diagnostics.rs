//! What is wrong with a file: every fault with its place, its reason and its cure.

use std::fmt;
use std::ops::Range;

use miette::{LabeledSpan, NamedSource, SourceCode};

use crate::render;

/// The most faults that are kept; beyond that they are only counted.
pub const FAULTS_MAX: usize = 1_000;

/// How many faults search for a name that is meant; beyond that the search costs more than it helps.
const SUGGESTIONS_MAX: usize = 50;

/// What kind of rule is broken. The code is stable and can be searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The text is not TOML.
    F01,
    /// A key that means nothing.
    F02,
    /// A value of the wrong type.
    F03,
    /// Something that must be there is not.
    F04,
    /// A value of the right type that is not allowed.
    F05,
    /// More than a limit allows.
    F06,
    /// A secret in clear.
    F07,
    /// Ids are well-formed and unique over all kinds.
    V01,
    /// References resolve, to the right kind.
    V02,
    /// Channels join two servers, or a server and an appliance, once.
    V03,
    /// Functional dependencies have no cycle.
    V04,
    /// No binding with itself; no two of one model between the same two.
    V05,
    /// An appliance requires nothing.
    V06,
    /// An element has one place.
    V07,
    /// A binding has a path that carries it.
    V08,
    /// A server has room for its elements.
    V09,
    /// Each element has a server that may host it.
    V10,
    /// All essential elements have a place together.
    V11,
    /// They have one also when one server is lost.
    V12,
    /// Servers and used appliances are joined, and not by one thing alone.
    V13,
    /// Whoever may fail is watched by somebody else.
    V14,
    /// Actuators have a class, their models no contradiction, and irreversible commands an end.
    V15,
    /// Validity lies within its range.
    V16,
    /// An author may strengthen what is saved, not weaken it.
    V17,
    /// Volatile storage is never saved optimistically.
    V18,
    /// Checkpoints are often enough for the log to stay small.
    V19,
    /// Substitutes can do what is needed of those whose place they take.
    V20,
    /// Spaces are finite and not empty, appliances stand inside theirs.
    V21,
    /// What is watched for shows that an entity is there.
    V22,
    /// Who must be together and who must be apart do not contradict each other.
    V24,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The topology cannot be used.
    Error,
    /// It can be used, and probably not as meant.
    Warning,
    /// Worth knowing.
    Advice,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Advice => "advice",
        })
    }
}

/// One thing that is wrong, in words for people. All text in it is free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule that it breaks.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The bytes of the file that are underlined; `None` concerns the file as a whole.
    pub place: Option<Range<usize>>,
    /// What is wrong.
    pub reason: String,
    /// What stands beside the underline.
    pub label: String,
    /// What to do about it.
    pub cure: Option<String>,
    /// Other places that belong to it, each with what it is.
    pub also: Vec<(Range<usize>, String)>,
}

impl Fault {
    /// An error at a place.
    pub(crate) fn new(code: Code, place: Range<usize>, reason: impl AsRef<str>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            place: Some(place),
            reason: render::printable(reason.as_ref()),
            label: String::new(),
            cure: None,
            also: Vec::new(),
        }
    }

    /// An error of the file as a whole.
    pub(crate) fn whole(code: Code, reason: impl AsRef<str>) -> Self {
        Self {
            place: None,
            ..Self::new(code, 0..0, reason)
        }
    }

    /// The same, less severe.
    pub(crate) fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Says beside the underline what it is.
    pub(crate) fn label(mut self, label: impl AsRef<str>) -> Self {
        self.label = render::printable(label.as_ref());
        self
    }

    /// Says what to do.
    pub(crate) fn cure(mut self, cure: impl AsRef<str>) -> Self {
        self.cure = Some(render::printable(cure.as_ref()));
        self
    }

    /// Points to another place that belongs to it.
    pub(crate) fn also(mut self, place: Range<usize>, label: impl AsRef<str>) -> Self {
        self.also.push((place, render::printable(label.as_ref())));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

impl miette::Diagnostic for Fault {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Advice => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let cure = self.cure.as_ref()?;
        Some(Box::new(cure))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let first = self.place.iter().map(move |place| {
            LabeledSpan::new_primary_with_span(label(&self.label), place.clone())
        });
        let rest = self
            .also
            .iter()
            .map(move |(place, text)| LabeledSpan::new_with_span(label(text), place.clone()));
        Some(Box::new(first.chain(rest)))
    }
}

/// All faults of one file, in the order of their places, with the text they point into.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    pub(crate) name: String,
    pub(crate) text: String,
    line_starts: Vec<usize>,
    faults: Vec<Fault>,
    omitted_count: usize,
    source: NamedSource<String>,
}

impl Diagnostics {
    /// The faults that were kept, at most [`FAULTS_MAX`].
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// How many more there are.
    #[must_use]
    pub fn omitted_count(&self) -> usize {
        self.omitted_count
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The line and column of a byte of the file, both counted from 1; the column counts
    /// characters.
    #[must_use]
    pub fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let byte = render::floor(&self.text, byte);
        let line = self.line_starts.partition_point(|start| *start <= byte);
        let start = self.line_starts[line - 1];
        (line, self.text[start..byte].chars().count() + 1)
    }

    /// All faults as text for people, the same on every terminal and free of control characters
    /// from the file; `color` adds ANSI colours of our own.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        render::render(self, color)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = render::printable(&self.name);
        match self.faults.len() + self.omitted_count {
            1 => write!(f, "{name} has 1 fault"),
            count => write!(f, "{name} has {count} faults"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl miette::Diagnostic for Diagnostics {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(
            self.faults
                .iter()
                .map(|fault| fault as &dyn miette::Diagnostic),
        ))
    }
}

/// Where the reader and the checks put what they find.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    kept: Vec<Fault>,
    omitted_count: usize,
    has_errors: bool,
}

impl Faults {
    /// Takes one more.
    pub(crate) fn add(&mut self, fault: Fault) {
        self.has_errors |= fault.severity == Severity::Error;
        if self.kept.len() < FAULTS_MAX {
            self.kept.push(fault);
        } else {
            self.omitted_count += 1;
        }
    }

    /// Runs something and gives the values that it does not allow the code of their own rule.
    pub(crate) fn under<T>(&mut self, code: Code, run: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.kept.len();
        let result = run(self);
        for fault in &mut self.kept[before..] {
            if fault.code == Code::F05 {
                fault.code = code;
            }
        }
        result
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.kept.len() + self.omitted_count
    }

    /// Whether the topology cannot be used.
    pub(crate) fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// The name among `known` that was probably meant by `given`.
    pub(crate) fn meant<'k>(
        &self,
        given: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Option<&'k str> {
        if self.kept.len() >= SUGGESTIONS_MAX || given.chars().count() > 64 {
            return None;
        }
        let length = given.chars().count();
        // Of a very short name nothing would be left.
        let allowed = (length.max(3) / 3).min(length.saturating_sub(1));
        known
            .map(|name| (strsim::damerau_levenshtein(given, name), name))
            .filter(|(distance, _)| *distance <= allowed)
            .min()
            .map(|(_, name)| name)
    }

    /// All faults of errors' severity, or all others, with the text they point into.
    pub(crate) fn diagnostics(&self, name: &str, text: &str, errors: bool) -> Diagnostics {
        let mut faults: Vec<_> = self
            .kept
            .iter()
            .filter(|fault| (fault.severity == Severity::Error) == errors)
            .cloned()
            .collect();
        faults.sort_by_key(|fault| {
            let start = fault.place.as_ref().map(|place| place.start);
            (start, fault.code, fault.severity)
        });
        faults.dedup();
        Diagnostics {
            name: name.to_owned(),
            text: text.to_owned(),
            line_starts: render::line_starts(text),
            faults,
            // What was left out is of both kinds; it is told where it matters.
            omitted_count: if errors { self.omitted_count } else { 0 },
            source: NamedSource::new(render::printable(name), render::same_length(text)),
        }
    }
}
