//! One shape for every reader's error: which file, and what is wrong with it.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// A problem, and the file that has it.
#[derive(Debug)]
pub struct InFile<P> {
    /// The file that the problem is in.
    pub file: PathBuf,
    /// What is wrong, and what to do about it.
    pub problem: P,
}

impl<P> InFile<P> {
    /// Says which file a problem is in; made for `map_err`.
    pub fn at(file: &Path) -> impl Fn(P) -> InFile<P> + '_ {
        move |problem| InFile { file: file.to_owned(), problem }
    }
}

impl<P: fmt::Display> fmt::Display for InFile<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

/// `Display` already shows the problem, so the chain goes on with what caused it.
impl<P: Error> Error for InFile<P> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}
