use std::any::Any;
use std::sync::Arc;

type Value = Arc<dyn Any + Send + Sync>;

/// Values of the application, one of each type. The first needs no list.
#[derive(Clone, Default)]
pub(super) struct Data {
    first: Option<Value>,
    others: Vec<Value>,
}

impl Data {
    /// Inserts a value, or replaces the one of this type.
    pub(super) fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        let value: Value = Arc::new(value);
        let mut known = self.first.iter_mut().chain(&mut self.others);
        if let Some(known) = known.find(|known| known.is::<T>()) {
            *known = value;
        } else if self.first.is_none() {
            self.first = Some(value);
        } else {
            self.others.push(value);
        }
    }

    /// Returns the value of this type.
    pub(super) fn get<T: Any>(&self) -> Option<&T> {
        let mut values = self.first.iter().chain(&self.others);
        values.find_map(|value| value.downcast_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_one_value_of_each_type() {
        let mut data = Data::default();
        assert_eq!(data.get::<u8>(), None);
        data.insert(1_u8);
        data.insert("text");
        data.insert(2_u16);
        let before = data.clone();
        data.insert(3_u8);
        data.insert(4_u16);
        assert_eq!(data.get(), Some(&3_u8));
        assert_eq!(data.get(), Some(&"text"));
        assert_eq!(data.get(), Some(&4_u16));
        assert_eq!(data.get::<i64>(), None);
        assert_eq!((before.get(), before.get()), (Some(&1_u8), Some(&2_u16)));
    }
}
