use std::any::Any;

use super::TokenRecord;
use crate::token::DisplayId;

/// Fields for stores over a table of your own. See the [recipe](crate::guide::existing_table).
impl TokenRecord {
    /// Sets the id that responses, logs and audit events show, such as the UUID of a row in a table of
    /// your own. The default is the [id](Self::id).
    ///
    /// Ten characters of `0-9`, `A-Z` and `a-z` are the text of a
    /// [`TokenId`](crate::token::TokenId). If it is not that of this record, it names another token, and
    /// the id of the record is shown instead. A table with such ids uses them as `TokenId`s.
    ///
    /// For stores of your own. The SQL stores and the token file do not keep it.
    pub fn with_display_id(mut self, id: impl Into<Option<DisplayId>>) -> Self {
        let own = self.id();
        self.attributes_mut().display_id = id.into().filter(|id| id.may_show(own));
        self
    }

    /// Adds a value of the application, or replaces the one of this type. A handler reads it by
    /// [`Principal::data`](crate::Principal::data), so that a request parses no text.
    ///
    /// For stores of your own. The first value allocates once for itself, and once for the fields that
    /// most records lack, unless the record has a subject, a label or a displayed id. A value of another
    /// type may grow a list as well. All of this is when the record is built: a request allocates nothing
    /// for it.
    ///
    /// A [cache](crate::store::CachedStore) keeps it with the record, so pass what does not change
    /// without the token. A change of the value ends no [stream](crate#modules): set a value such as the
    /// tenant as the [owner](Self::with_owner), too, whose change does. The SQL stores and the token
    /// file do not keep it. `Debug` omits it.
    ///
    /// ```
    /// use tower_service_token::store::TokenRecord;
    /// use tower_service_token::token::TokenFormat;
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Tenant(u64);
    ///
    /// let token = TokenFormat::default().mint()?;
    /// let record = TokenRecord::from(&token).with_data(Tenant(7));
    /// assert_eq!(record.data(), Some(&Tenant(7)));
    /// assert_eq!(record.data::<String>(), None);
    /// # Ok::<_, tower_service_token::token::MintError>(())
    /// ```
    pub fn with_data<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.attributes_mut().data.insert(value);
        self
    }

    /// Returns the id that responses, logs and audit events show: the one that the store set, or else
    /// the [id](Self::id).
    pub fn display_id(&self) -> DisplayId {
        let own = self.own_display_id().cloned();
        own.unwrap_or_else(|| self.id().into())
    }

    /// Returns the value of this type that the store added.
    pub fn data<T: Any>(&self) -> Option<&T> {
        self.0.attributes.as_ref()?.data.get()
    }

    /// Returns the displayed id, if the store set one.
    pub(crate) fn own_display_id(&self) -> Option<&DisplayId> {
        self.0.attributes.as_ref()?.display_id.as_ref()
    }
}
