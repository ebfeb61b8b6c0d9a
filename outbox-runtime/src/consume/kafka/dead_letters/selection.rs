//! Which dead letters were found: a set of places that takes about a bit for each.

use std::collections::BTreeMap;

use super::letter::DeadLetterId;

/// Offsets in a chunk.
const CHUNK: i64 = 4_096;
const WORD: i64 = 64;
const WORDS: usize = (CHUNK / WORD) as usize;

/// The dead letters that [`DeadLetters::select`](super::DeadLetters::select) found, by partition
/// and offset. It takes about 130 KiB for a million of them: none of their contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    partitions: BTreeMap<i32, Offsets>,
}

impl Selection {
    /// Number of dead letters.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.partitions.values().map(|offsets| offsets.len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, id: DeadLetterId) -> bool {
        self.partitions.get(&id.partition).is_some_and(|offsets| offsets.contains(id.offset))
    }

    /// Where they are, by partition and offset.
    pub fn ids(&self) -> impl Iterator<Item = DeadLetterId> + '_ {
        self.partitions.iter().flat_map(|(partition, offsets)| {
            offsets.iter().map(|offset| DeadLetterId { partition: *partition, offset })
        })
    }

    /// The first `most` of them, by partition and offset.
    #[must_use]
    pub fn first(self, most: u64) -> Self {
        if self.len() <= most {
            return self;
        }
        self.ids().take(usize::try_from(most).unwrap_or(usize::MAX)).collect()
    }

    pub(super) fn insert(&mut self, id: DeadLetterId) {
        self.partitions.entry(id.partition).or_default().insert(id.offset);
    }

    pub(super) fn remove(&mut self, id: DeadLetterId) {
        if let Some(offsets) = self.partitions.get_mut(&id.partition) {
            offsets.remove(id.offset);
        }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (i32, &Offsets)> {
        self.partitions.iter().map(|(partition, offsets)| (*partition, offsets))
    }
}

impl FromIterator<DeadLetterId> for Selection {
    fn from_iter<I: IntoIterator<Item = DeadLetterId>>(ids: I) -> Self {
        let mut selection = Self::default();
        for id in ids.into_iter().filter(|id| id.partition >= 0 && id.offset >= 0) {
            selection.insert(id);
        }
        selection
    }
}

/// The offsets of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    /// A bit for each offset, by number of the chunk. Chunks without one are left out.
    chunks: BTreeMap<i64, Box<[u64; WORDS]>>,
    len: u64,
}

impl Offsets {
    fn insert(&mut self, offset: i64) {
        let (chunk, word, bit) = place(offset);
        let words = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; WORDS]));
        self.len += u64::from(words[word] & bit == 0);
        words[word] |= bit;
    }

    fn remove(&mut self, offset: i64) {
        let (chunk, word, bit) = place(offset);
        let Some(words) = self.chunks.get_mut(&chunk) else { return };
        self.len -= u64::from(words[word] & bit != 0);
        words[word] &= !bit;
        if words.iter().all(|word| *word == 0) {
            self.chunks.remove(&chunk);
        }
    }

    pub(super) fn contains(&self, offset: i64) -> bool {
        let (chunk, word, bit) = place(offset);
        self.chunks.get(&chunk).is_some_and(|words| words[word] & bit != 0)
    }

    /// The first one that is not before this.
    pub(super) fn next(&self, from: i64) -> Option<i64> {
        let (first, word, bit) = place(from);
        self.chunks.range(first..).find_map(|(chunk, words)| {
            let start = if *chunk == first { word } else { 0 };
            (start..WORDS).find_map(|at| {
                // Of the word in which `from` is, only the bits from it on.
                let cut = if *chunk == first && at == word { bit - 1 } else { 0 };
                let left = words[at] & !cut;
                (left != 0)
                    .then(|| chunk * CHUNK + at as i64 * WORD + i64::from(left.trailing_zeros()))
            })
        })
    }

    fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        std::iter::successors(self.next(0), |offset| self.next(offset.checked_add(1)?))
    }
}

/// The chunk of an offset, the word in it, and the bit in that.
fn place(offset: i64) -> (i64, usize, u64) {
    let within = offset.rem_euclid(CHUNK);
    (offset.div_euclid(CHUNK), (within / WORD) as usize, 1 << (within % WORD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn id(partition: i32, offset: i64) -> DeadLetterId {
        DeadLetterId { partition, offset }
    }

    #[test]
    fn what_is_inserted_and_not_removed_is_there_once_and_in_order() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            (state >> 33) as i64
        };
        let (mut selection, mut expected) = (Selection::default(), BTreeSet::new());
        for _ in 0..20_000 {
            // Close to each other, and at the ends of words and chunks.
            let id = id((random() % 3) as i32, random() % 9_000 + 4_000 * (random() % 3));
            if random() % 3 == 0 {
                selection.remove(id);
                expected.remove(&id);
            } else {
                selection.insert(id);
                expected.insert(id);
            }
        }
        assert_eq!(selection.len(), expected.len() as u64);
        assert!(selection.ids().eq(expected.iter().copied()));
        let gap = (0..).map(|offset| id(0, offset)).find(|id| !expected.contains(id)).unwrap();
        assert!(!selection.contains(gap) && selection.contains(*expected.first().unwrap()));
        let of_first = selection.partitions().next().unwrap().1;
        for from in 0..17_100 {
            let next = expected.range(id(0, from)..id(1, 0)).next().map(|id| id.offset);
            assert_eq!(of_first.next(from), next, "from {from}");
        }
    }

    #[test]
    fn absurd_places_take_no_memory_and_the_largest_offset_is_one_like_others() {
        let mut selection: Selection =
            [id(0, i64::MAX - 1), id(-1, 5), id(0, -5)].into_iter().collect();
        selection.remove(id(0, i64::MIN));
        selection.remove(id(i32::MAX, 3));
        assert_eq!(selection.ids().collect::<Vec<_>>(), [id(0, i64::MAX - 1)]);
        selection.remove(id(0, i64::MAX - 1));
        assert!(selection.is_empty());
        assert_eq!(selection.partitions().next().unwrap().1.chunks.len(), 0);
    }

    #[test]
    fn the_first_ones_are_those_of_the_first_partitions() {
        let all: Selection = [id(1, 1), id(0, 7), id(0, 2)].into_iter().collect();
        assert_eq!(all.clone().first(2).ids().collect::<Vec<_>>(), [id(0, 2), id(0, 7)]);
        assert_eq!(all.clone().first(u64::MAX), all);
        assert!(all.first(0).is_empty());
    }
}
