//! What openraft reports may only rise: it checks that itself in debug builds alone, and goes on
//! with its cursor moved back otherwise. Source: dangers C11.

use openraft::RaftMetrics;
use openraft::raft::FlushPoint;
use openraft_rt::AsyncRuntime;

use super::types::{LogId, TypeConfig};

/// What only ever rises while openraft works.
pub(super) struct Marks<R: AsyncRuntime> {
    flushed: Watermark<FlushPoint<TypeConfig<R>>>,
    applied: Watermark<LogId>,
    snapshot: Watermark<LogId>,
    term: Watermark<u64>,
}

impl<R: AsyncRuntime> Marks<R> {
    pub(super) const fn new() -> Self {
        Self {
            flushed: Watermark::new("what the log has on the disk"),
            applied: Watermark::new("what is applied"),
            snapshot: Watermark::new("the snapshot"),
            term: Watermark::new("the term"),
        }
    }

    /// Takes a new report.
    ///
    /// * Errors: one of them is below an earlier one, in words for the operator.
    pub(super) fn rise(
        &mut self,
        metrics: &RaftMetrics<TypeConfig<R>>,
        flushed: Option<FlushPoint<TypeConfig<R>>>,
    ) -> Result<(), String> {
        self.flushed.rise(flushed)?;
        self.applied.rise(metrics.last_applied)?;
        self.snapshot.rise(metrics.snapshot)?;
        self.term.rise(Some(metrics.current_term))
    }
}

/// The highest of what was reported.
#[derive(Clone, Debug)]
struct Watermark<T> {
    what: &'static str,
    highest: Option<T>,
}

impl<T: PartialOrd + core::fmt::Display> Watermark<T> {
    const fn new(what: &'static str) -> Self {
        Self { what, highest: None }
    }

    /// Takes a new report.
    ///
    /// * Errors: it is below an earlier one, in words for the operator.
    fn rise(&mut self, now: Option<T>) -> Result<(), String> {
        let went_back = match (&self.highest, &now) {
            (Some(highest), Some(now)) => now < highest,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if went_back {
            let text = |at: Option<&T>| at.map_or_else(|| "nothing".to_owned(), T::to_string);
            return Err(format!(
                "{} went back from {} to {}: the storage of this node is not to be trusted any \
                 more; it stops. Remove it from the cluster and let it join anew on an empty \
                 folder",
                self.what,
                text(self.highest.as_ref()),
                text(now.as_ref()),
            ));
        }
        self.highest = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_back_is_told_in_words() {
        let mut mark = Watermark::new("the log's fsync");
        assert_eq!(mark.rise(None), Ok(()));
        assert_eq!(mark.rise(Some(5)), Ok(()));
        assert_eq!(mark.rise(Some(5)), Ok(()));
        let text = mark.rise(Some(4)).unwrap_err();
        assert!(text.starts_with("the log's fsync went back from 5 to 4"), "{text}");
        assert!(mark.rise(None).is_err());
        assert_eq!(mark.rise(Some(6)), Ok(()));
    }
}
