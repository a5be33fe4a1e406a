//! Rows of the event log that this node has not got yet: it took the state over from another, which
//! does not hold them, and the host fetches them. Nobody here may take such a place for an empty
//! one.

/// Ranges of sequences, each from its first to before its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacking(Vec<(u64, u64)>);

impl Lacking {
    pub(crate) fn new(ranges: Vec<(u64, u64)>) -> Self {
        Self(ranges)
    }

    /// Before which sequence the gap ends that this one lies in, if it lies in one.
    pub(crate) fn gap_end(&self, sequence: u64) -> Option<u64> {
        let mut ranges = self.0.iter();
        ranges.find(|(from, to)| (*from..*to).contains(&sequence)).map(|(_, to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_before_the_first_row_that_is_here() {
        let lacking = Lacking::new(vec![(20, 30), (5, 10)]);
        assert_eq!([4, 5, 9, 10].map(|at| lacking.gap_end(at)), [None, Some(10), Some(10), None]);
        assert_eq!(lacking.gap_end(29), Some(30));
        assert_eq!(Lacking::default().gap_end(1), None);
    }
}
