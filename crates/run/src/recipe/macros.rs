//! `recipe!`: a struct or enum, its defaults, its documentation and its schema, written once.

/// Declares recipe tables (structs) and string choices (enums).
///
/// A field without default is required, unless it is an `Option`, or a table all of whose own fields can be left out.
/// Structs get `Clone`, `Debug` and `PartialEq`, and may derive more (`#[derive(…)]` and `#[serde(…)]`, in this order, after
/// the documentation); enums also `Copy`, `Eq`, `Display`, `FromStr` and `as_str`. Doc comments
/// go into the JSON Schema. Tables must not contain themselves.
///
/// ```
/// smolt_run::recipe! {
///     /// How weights move.
///     pub struct Optimizer {
///         /// Peak learning rate.
///         pub lr: f64 = 1e-3,
///         /// Number of updates.
///         pub steps: u64,
///         /// Arithmetic.
///         pub precision: Precision = Precision::Fp32,
///         /// Gradient norm limit, none when left out.
///         pub clip: Option<f64>,
///     }
///
///     /// Arithmetic.
///     pub enum Precision {
///         /// 32-bit throughout.
///         Fp32 = "fp32",
///         /// bf16 products.
///         Bf16 = "bf16",
///     }
/// }
/// let doc = smolt_run::recipe::Document::parse("r.toml", b"steps = 5").unwrap();
/// assert_eq!(doc.read::<Optimizer>().unwrap().lr, 1e-3);
/// ```
#[macro_export]
macro_rules! recipe {
    () => {};
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:path),*)])?
        $(#[serde($($serde:tt)*)])?
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $field_vis:vis $field:ident : $type:ty $(= $default:expr)?
            ),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq $($(, $derive)*)?)]
        $(#[serde($($serde)*)])?
        $vis struct $name {
            $(
                $(#[doc = $field_doc])*
                $field_vis $field: $type,
            )*
        }

        impl $crate::recipe::Recipe for $name {
            fn schema() -> $crate::recipe::Schema {
                $crate::recipe::Schema {
                    name: stringify!($name),
                    doc: $crate::recipe::__doc(concat!($($doc, "\n"),*)),
                    fields: vec![$(
                        $crate::recipe::__field::<$type>(
                            stringify!($field),
                            concat!($($field_doc, "\n"),*),
                            $crate::recipe!(@default $type $(= $default)?),
                        )
                    ),*],
                }
            }
        }

        impl $crate::recipe::Setting for $name {
            fn kind() -> $crate::recipe::Kind {
                $crate::recipe::Kind::Table(<Self as $crate::recipe::Recipe>::schema())
            }

            fn read(
                node: &$crate::recipe::Node,
                reader: &mut $crate::recipe::Reader,
            ) -> ::core::option::Option<Self> {
                let table = reader.table::<Self>(node)?;
                $(
                    let $field = table.field::<$type>(
                        $crate::recipe::__key(stringify!($field)),
                        $crate::recipe!(@default $type $(= $default)?),
                        reader,
                    );
                )*
                table.reject_unknown(&[$($crate::recipe::__key(stringify!($field))),*], reader);
                ::core::option::Option::Some(Self { $($field: $field?),* })
            }

            fn absent() -> ::core::option::Option<Self> {
                $crate::recipe::defaults::<Self>().ok()
            }

            fn write(&self) -> ::core::option::Option<$crate::recipe::__toml::Value> {
                let mut table = $crate::recipe::__toml::Table::new();
                $(
                    if let ::core::option::Option::Some(value) = $crate::recipe::Setting::write(&self.$field) {
                        table.insert($crate::recipe::__key(stringify!($field)).to_owned(), value);
                    }
                )*
                ::core::option::Option::Some($crate::recipe::__toml::Value::Table(table))
            }
        }

        $crate::recipe! { $($rest)* }
    };
    (
        $(#[doc = $doc:literal])*
        $vis:vis enum $name:ident {
            $(
                $(#[doc = $variant_doc:literal])*
                $variant:ident = $text:literal
            ),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $(
                $(#[doc = $variant_doc])*
                $variant,
            )*
        }

        impl $name {
            /// The spelling in recipes.
            #[allow(dead_code, unreachable_pub)]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::core::str::FromStr for $name {
            type Err = ::std::string::String;

            fn from_str(text: &str) -> ::core::result::Result<Self, Self::Err> {
                match text {
                    $($text => ::core::result::Result::Ok(Self::$variant),)*
                    _ => ::core::result::Result::Err(::std::format!(
                        "must be {}, found {:?}",
                        <Self as $crate::recipe::Setting>::kind().describe(),
                        text,
                    )),
                }
            }
        }

        impl $crate::recipe::Setting for $name {
            fn kind() -> $crate::recipe::Kind {
                $crate::recipe::Kind::OneOf(vec![
                    $(($text, $crate::recipe::__doc(concat!($($variant_doc, "\n"),*)))),*
                ])
            }

            fn read(
                node: &$crate::recipe::Node,
                reader: &mut $crate::recipe::Reader,
            ) -> ::core::option::Option<Self> {
                match reader.choice(node).and_then(|text| text.parse().ok()) {
                    ::core::option::Option::Some(value) => ::core::option::Option::Some(value),
                    ::core::option::Option::None => reader.wrong_type::<Self>(node),
                }
            }

            fn write(&self) -> ::core::option::Option<$crate::recipe::__toml::Value> {
                ::core::option::Option::Some($crate::recipe::__toml::Value::String(self.as_str().to_owned()))
            }
        }

        $crate::recipe! { $($rest)* }
    };
    (@default $type:ty = $default:expr) => {{
        let default: fn() -> $type = || $default;
        ::core::option::Option::Some(default)
    }};
    (@default $type:ty) => {
        ::core::option::Option::None::<fn() -> $type>
    };
}
