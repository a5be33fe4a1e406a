//! The storage engine on a damaged file.
//!
//! redb looks at the checksums of its pages when it repairs a file, not when it reads it: a page
//! whose bits have turned can make it panic. That is a disk error like any other: it stops the node
//! with words, or is the answer to one read.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::StorageError;

/// Lets the engine work.
///
/// Unwind safe: after a panic the engine's own locks are poisoned, so that all it does is fail.
pub(crate) fn guarded<T>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = format!("the storage engine gave up, damaged file? ({})", said(&*panic));
        Err(StorageError::io(doing, text))
    })
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let index = std::hint::black_box(5);
        let answer = guarded("reading", || Ok([1, 2, 3][index]));
        assert_eq!(
            answer.unwrap_err().to_string(),
            "disk error while reading: the storage engine gave up, damaged file? (index out of \
             bounds: the len is 3 but the index is 5)"
        );
        assert_eq!(guarded("reading", || Ok(3)), Ok(3));
        assert_eq!(guarded::<()>("reading", || Err(StorageError::Full)), Err(StorageError::Full));
    }
}
