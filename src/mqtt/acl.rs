//! What an account may see: patterns, default deny.
//!
//! A grant is a topic filter. A subscription that is wider than the grants is taken all the same
//! and each message is checked on its way out, so `#` of an account that may see
//! `application/{id}/#` shows just that. Publishing is checked by name. Who grants what is the
//! node's; here stand the two questions.

use crate::{TopicFilter, TopicName};

/// Whether any grant covers a message's topic: may it be delivered to, or taken from, the account?
pub fn covers<'a>(grants: impl IntoIterator<Item = &'a TopicFilter>, topic: &TopicName) -> bool {
    grants.into_iter().any(|grant| grant.matches(topic))
}

/// How a wanted filter stands to what is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverage {
    /// No topic matches both: a subscription would never show anything. Refuse it.
    Nothing,
    /// Some topics match both: grant it, and filter message by message.
    Part,
    /// Every wanted topic is covered by one grant: no message needs to be checked.
    Whole,
}

/// How far `grants` reach into what `wanted` asks for.
///
/// Several grants that only together cover all of it count as [`Coverage::Part`], which costs a
/// check a message and nothing else.
pub fn coverage<'a>(
    grants: impl IntoIterator<Item = &'a TopicFilter>,
    wanted: &TopicFilter,
) -> Coverage {
    let one = |grant: &TopicFilter| {
        if contains(grant, wanted) {
            Coverage::Whole
        } else if overlaps(grant, wanted) {
            Coverage::Part
        } else {
            Coverage::Nothing
        }
    };
    grants.into_iter().map(one).max().unwrap_or(Coverage::Nothing)
}

/// Whether the wildcard `level` at the root of a filter hides `other` at the root of another.
fn hidden(level: &str, other: &str) -> bool {
    matches!(level, "+" | "#") && other.starts_with('$')
}

/// Whether every name that `inner` matches is matched by `outer`.
fn contains(outer: &TopicFilter, inner: &TopicFilter) -> bool {
    let (mut outer, mut inner) = (outer.levels(), inner.levels());
    let mut root = true;
    loop {
        match (outer.next(), inner.next()) {
            (Some(a), Some(b)) if root && hidden(a, b) => return false,
            (Some("#"), _) => return true,
            (Some("+"), Some(b)) if b != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            (None | Some(_), None | Some(_)) => return false,
        }
        root = false;
    }
}

/// Whether some name is matched by both.
fn overlaps(one: &TopicFilter, other: &TopicFilter) -> bool {
    let (mut one, mut other) = (one.levels(), other.levels());
    let mut root = true;
    loop {
        match (one.next(), other.next()) {
            (Some(a), Some(b)) if root && (hidden(a, b) || hidden(b, a)) => return false,
            (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            (None | Some(_), None | Some(_)) => return false,
        }
        root = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    #[test]
    fn a_wide_subscription_is_granted_and_filtered() {
        let grants = [filter("application/7/#")];
        assert_eq!(coverage(&grants, &filter("#")), Coverage::Part);
        assert!(covers(&grants, &"application/7/device/1/event/up".parse().unwrap()));
        assert!(covers(&grants, &"application/7".parse().unwrap()));
        assert!(!covers(&grants, &"application/70/device/1/event/up".parse().unwrap()));
        assert!(!covers(&[], &"application/7".parse().unwrap()), "default deny");
    }

    #[test]
    fn coverage_by_example() {
        let table = [
            ("application/7/#", "application/7/device/+/event/up", Coverage::Whole),
            ("application/7/#", "application/+/device/+/event/up", Coverage::Part),
            ("application/7/#", "application/8/#", Coverage::Nothing),
            ("application/7/#", "application/7", Coverage::Whole),
            ("application/7/#", "application/7/#", Coverage::Whole),
            ("a/+", "a/#", Coverage::Part),
            ("a/+", "a/+/b", Coverage::Nothing),
            ("a/+", "a", Coverage::Nothing),
            ("#", "$SYS/#", Coverage::Nothing),
            ("$SYS/#", "#", Coverage::Nothing),
            ("+/a", "$SYS/a", Coverage::Nothing),
            ("#", "+/+", Coverage::Whole),
        ];
        for (grant, wanted, expected) in table {
            assert_eq!(coverage(&[filter(grant)], &filter(wanted)), expected, "{grant} {wanted}");
        }
    }

    proptest! {
        #[test]
        fn coverage_agrees_with_matching(
            grant in "[$ab]?[ab/+]{0,3}(/#)?",
            wanted in "[$ab]?[ab/+]{0,3}(/#)?",
            names in proptest::collection::vec("[$ab]?[ab/]{1,4}", 1..20),
        ) {
            let (Ok(grant), Ok(wanted)) = (TopicFilter::parse(&grant), TopicFilter::parse(&wanted))
            else { return Ok(()) };
            let coverage = coverage([&grant], &wanted);
            for name in names {
                let name = TopicName::parse(&name).unwrap();
                match coverage {
                    Coverage::Whole => prop_assert!(!wanted.matches(&name) || grant.matches(&name)),
                    Coverage::Nothing => {
                        prop_assert!(!(wanted.matches(&name) && grant.matches(&name)));
                    }
                    Coverage::Part => {}
                }
            }
        }
    }
}
