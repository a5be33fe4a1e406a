//! Slots that never move: grows a chunk at a time, so no insertion copies what is already there.

const CHUNK: usize = 1_024;

#[derive(Clone, Debug)]
enum Cell<T> {
    Full(T),
    /// Free; the next free slot, if any.
    Free(Option<u32>),
}

/// At most 2^32 slots of `T`, found by number.
#[derive(Clone, Debug)]
pub(crate) struct Arena<T> {
    chunks: Vec<Vec<Cell<T>>>,
    free: Option<u32>,
    len: usize,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), free: None, len: 0 }
    }

    /// Slots in use.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(slot) = self.free
            && let Some(cell) = self.cell_mut(slot)
        {
            if let Cell::Free(next) = core::mem::replace(cell, Cell::Full(value)) {
                self.free = next;
            }
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("a chunk was just made sure of");
        let slot = before + chunk.len();
        chunk.push(Cell::Full(value));
        u32::try_from(slot).expect("memory ends long before 2^32 slots")
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let cell = self.cell_mut(slot)?;
        if matches!(cell, Cell::Free(_)) {
            return None;
        }
        let before = core::mem::replace(cell, Cell::Free(free));
        self.free = Some(slot);
        self.len -= 1;
        match before {
            Cell::Full(value) => Some(value),
            Cell::Free(_) => None,
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        match self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)? {
            Cell::Full(value) => Some(value),
            Cell::Free(_) => None,
        }
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        match self.cell_mut(slot)? {
            Cell::Full(value) => Some(value),
            Cell::Free(_) => None,
        }
    }

    fn cell_mut(&mut self, slot: u32) -> Option<&mut Cell<T>> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut arena = Arena::new();
        let slots: Vec<u32> = (0..3_000).map(|value| arena.insert(value)).collect();
        assert_eq!(slots, (0..3_000).collect::<Vec<_>>());
        assert_eq!(arena.remove(7), Some(7));
        assert_eq!(arena.remove(7), None);
        assert_eq!(arena.remove(2_999), Some(2_999));
        assert_eq!((arena.get(7), arena.get(3_000), arena.len()), (None, None, 2_998));
        assert_eq!((arena.insert(1), arena.insert(2), arena.insert(3)), (2_999, 7, 3_000));
        assert_eq!((arena.get(2_999), arena.get(7), arena.len()), (Some(&1), Some(&2), 3_001));
    }
}
