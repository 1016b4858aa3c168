# Puts csl-tracker on the PATH of a sourced workspace.
_colcon_prepend_unique_value PATH "$COLCON_CURRENT_PREFIX/lib/csl_tracker"
